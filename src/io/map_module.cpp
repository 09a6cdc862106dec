#include "io/map_module.h"

#include <caffe2/serialize/read_adapter_interface.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <torch/csrc/jit/ir/constants.h>
#include <torch/csrc/jit/serialization/import.h>
#include <unistd.h>

#include <array>
#include <cstdint>
#include <cstring>
#include <memory>
#include <random>
#include <system_error>
#include <unordered_set>
#include <vector>

#include "io/file_mapping.h"

namespace tsquant {

namespace {

using torch::jit::Block;
using torch::jit::Node;

struct Record {
  uint64_t offset = 0, size = 0;
};

/// What memory holds in place of a record: a number that no file can foresee, and which record it is.
using Mark = std::array<uint64_t, 3>;

/// Otherwise the page with the mark may be one of 2 MB.
void stay_small(void* memory, size_t size) {
  const auto page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  const uintptr_t begin = reinterpret_cast<uintptr_t>(memory) / page * page;
  constexpr size_t kHugePage = size_t{2} << 20;
  if (size >= kHugePage) madvise(reinterpret_cast<void*>(begin), size, MADV_NOHUGEPAGE);
}

/// A file that does not hand out the bytes of some records. What LibTorch allocates for these costs no memory as long
/// as nobody touches it.
class FileWithoutRecords : public caffe2::serialize::ReadAdapterInterface {
 public:
  FileWithoutRecords(const std::string& path, const std::map<uint64_t, uint64_t>& records)
      : file_(open(path.c_str(), O_RDONLY | O_CLOEXEC)), records_(records) {
    struct stat status {};
    if (file_ < 0 || fstat(file_, &status) != 0) throw std::system_error(errno, std::generic_category(), path);
    size_ = static_cast<size_t>(status.st_size);
    std::random_device random;
    for (size_t i = 0; i < 2; ++i) key_[i] = (uint64_t{random()} << 32) | random();
  }
  ~FileWithoutRecords() override { close(file_); }
  FileWithoutRecords(const FileWithoutRecords&) = delete;
  FileWithoutRecords& operator=(const FileWithoutRecords&) = delete;

  size_t size() const override { return size_; }

  size_t read(uint64_t pos, void* buf, size_t n, const char* /*what*/) const override {
    const auto record = records_.find(pos);
    if (record != records_.end() && record->second == n && pos + n <= size_) {
      stay_small(buf, n);
      const Mark mark{key_[0], key_[1], kept_back_.size()};
      std::memcpy(buf, mark.data(), sizeof(mark));
      kept_back_.push_back({pos, n});
      return n;
    }
    size_t done = 0;
    while (done < n) {
      const ssize_t got = pread(file_, static_cast<char*>(buf) + done, n - done, static_cast<off_t>(pos + done));
      if (got <= 0) break;
      done += static_cast<size_t>(got);
    }
    return done;
  }

  /// How many records were asked for and not handed out.
  size_t kept_back() const { return kept_back_.size(); }

  /// The record that should stand in this memory; nullopt for any other memory.
  c10::optional<Record> record_at(const void* data, size_t size) const {
    Mark mark{};
    if (data == nullptr || size < sizeof(mark)) return c10::nullopt;
    std::memcpy(mark.data(), data, sizeof(mark));
    if (mark[0] != key_[0] || mark[1] != key_[1] || mark[2] >= kept_back_.size()) return c10::nullopt;
    const Record& record = kept_back_[mark[2]];
    return record.size >= size ? c10::make_optional(record) : c10::nullopt;
  }

  int descriptor() const { return file_; }

 private:
  int file_;
  size_t size_ = 0;
  const std::map<uint64_t, uint64_t>& records_;
  std::array<uint64_t, 2> key_{};
  mutable std::vector<Record> kept_back_;
};

/// Turns the storages of a loaded module to the file.
class StorageMapper {
 public:
  explicit StorageMapper(const FileWithoutRecords& file) : file_(file) {}

  size_t mapped() const { return mapped_; }

  void visit(const c10::IValue& value) {
    value.visit([this](const c10::IValue& part) {
      if (part.isTensor()) visit_tensor(part.toTensor());
      return part.isObject() && !objects_.insert(part.toObject().get()).second;  // true: not into it again
    });
  }

  /// Constants of a graph.
  void visit(Block* block) {
    for (Node* node : block->nodes()) {
      for (Block* inner : node->blocks()) visit(inner);
      if (node->kind() != c10::prim::Constant) continue;
      if (const auto value = torch::jit::toIValue(node->output())) visit(*value);
    }
  }

 private:
  void visit_tensor(const at::Tensor& tensor) {
    if (!tensor.defined() || !tensor.has_storage() || is_mapped(tensor)) return;
    const at::Storage& storage = tensor.storage();
    const auto record = file_.record_at(storage.data(), storage.nbytes());
    if (!record) return;
    storage.set_data_ptr_noswap(map_file(file_.descriptor(), record->offset, record->size));
    ++mapped_;
  }

  const FileWithoutRecords& file_;
  size_t mapped_ = 0;
  std::unordered_set<const void*> objects_;
};

}  // namespace

c10::optional<torch::jit::Module> load_mapped_module(const std::string& path,
                                                     const std::map<uint64_t, uint64_t>& records) {
  const auto file = std::make_shared<FileWithoutRecords>(path, records);
  const torch::jit::Module module = torch::jit::load(file, c10::kCPU);
  StorageMapper mapper(*file);
  try {
    mapper.visit(c10::IValue(module._ivalue()));
    for (torch::jit::Function* function : module._ivalue()->compilation_unit()->get_functions()) {
      if (auto* graph = torch::jit::tryToGraphFunction(*function)) mapper.visit(graph->graph()->block());
    }
  } catch (const std::system_error&) {
    return c10::nullopt;  // this file system has no mappings, or the process has as many as it may have
  }
  if (mapper.mapped() != file->kept_back()) return c10::nullopt;
  return module;
}

}  // namespace tsquant

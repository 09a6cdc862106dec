#include "io/file_mapping.h"

#include <sys/mman.h>
#include <unistd.h>

#include <memory>
#include <system_error>

namespace tsquant {

namespace {

/// Whole pages around the bytes that are used.
struct Pages {
  void* begin = nullptr;
  size_t size = 0;
};

void unmap(void* context) {
  const std::unique_ptr<Pages> pages(static_cast<Pages*>(context));
  munmap(pages->begin, pages->size);
}

/// Null for tensors that are not mapped.
const Pages* pages_of(const at::Tensor& tensor) {
  if (!tensor.defined() || !tensor.has_storage()) return nullptr;
  const at::DataPtr& data = tensor.storage().data_ptr();
  return data.get_deleter() == &unmap ? static_cast<const Pages*>(data.get_context()) : nullptr;
}

}  // namespace

at::DataPtr map_file(int descriptor, uint64_t offset, uint64_t size) {
  static const auto page = static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
  const uint64_t before = offset % page;
  auto pages = std::make_unique<Pages>();
  pages->size = static_cast<size_t>(before + size);
  pages->begin = mmap(nullptr, pages->size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE, descriptor,
                      static_cast<off_t>(offset - before));
  if (pages->begin == MAP_FAILED) throw std::system_error(errno, std::generic_category(), "mmap");
  void* data = static_cast<char*>(pages->begin) + before;
  return {data, pages.release(), &unmap, at::kCPU};
}

bool is_mapped(const at::Tensor& tensor) { return pages_of(tensor) != nullptr; }

void give_pages_back(const at::Tensor& tensor) {
  // An operator wrote into it: the file does not have these values.
  if (tensor.defined() && !tensor.is_inference() && tensor._version() > 0) return;
  if (const Pages* pages = pages_of(tensor)) madvise(pages->begin, pages->size, MADV_DONTNEED);
}

}  // namespace tsquant

#include "io/torch_archive.h"

#include <fmt/format.h>
#include <torch/csrc/jit/serialization/import.h>

#include <algorithm>
#include <filesystem>
#include <fstream>

#include "base/error_text.h"
#include "io/code_text.h"
#include "io/debug_records.h"
#include "io/map_module.h"
#include "io/module_check.h"

namespace tsquant {

namespace {

bool has_ending(const std::string& text, std::string_view ending) {
  return text.size() >= ending.size() && text.compare(text.size() - ending.size(), ending.size(), ending) == 0;
}

bool begins_as_zip(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  char begin[2] = {};
  return file.read(begin, 2) && begin[0] == 'P' && begin[1] == 'K';
}

}  // namespace

const ArchiveKind& model_archive() {
  static const ArchiveKind kind{ErrorCode::kModelLoad, "the model file", "save the model again with torch.jit.save"};
  return kind;
}

TorchArchive::TorchArchive(const std::string& path, const ArchiveKind& kind) : path_(path), kind_(kind) {
  check_file();
  try {
    zip_ = std::make_unique<ZipReader>(path);
  } catch (const Error&) {
    fail(kind_.file + " is damaged or no archive");
  }
  const auto& members = zip_->members();
  const std::string first = members.empty() ? "" : members.front().name;
  const size_t slash = first.find('/');
  if (slash == std::string::npos || !begins_as_zip(path)) fail(kind_.file + " is damaged or no archive");
  const std::string folder = first.substr(0, slash + 1);
  for (const auto& member : members) {
    if (member.name.compare(0, folder.size(), folder) != 0) continue;
    const std::string name = member.name.substr(folder.size());
    if (!records_.emplace(name, member).second) fail_damaged(fmt::format("it has two records {}", name));
  }
  if (!has("version") && !has(".data/version")) fail_damaged("it has no record of its version");
}

/// std::filesystem would throw for a path that is too long or in a folder that may not be entered.
void TorchArchive::check_file() const {
  std::error_code error;
  const auto status = std::filesystem::status(path_, error);
  if (status.type() == std::filesystem::file_type::not_found) {
    throw Error(kind_.code, "no such file", path_, "check the path");
  }
  if (error) throw Error(kind_.code, kind_.file + " cannot be read: " + error.message(), path_, "check the path");
  if (std::filesystem::is_directory(status)) throw Error(kind_.code, "this is a folder, not a file", path_);
  errno = 0;
  if (!std::ifstream(path_)) {
    const std::string reason = std::error_code(errno, std::generic_category()).message();
    throw Error(kind_.code, kind_.file + " cannot be read: " + reason, path_, "check its permissions");
  }
}

void TorchArchive::fail(const std::string& message) const { throw Error(kind_.code, message, path_, kind_.advice); }

void TorchArchive::fail_damaged(const std::string& why) const { fail(kind_.file + " is damaged: " + why); }

std::vector<std::string> TorchArchive::names() const {
  std::vector<std::string> names;
  for (const auto& record : records_) names.push_back(record.first);
  return names;
}

std::string TorchArchive::read(const std::string& record) {
  try {
    const auto bytes = zip_->read(records_.at(record));
    return {bytes.begin(), bytes.end()};
  } catch (const std::exception&) {
    fail_damaged(fmt::format("the record {} cannot be read", record));
  }
}

PickleTree TorchArchive::checked(const std::string& bytes, const std::string& record, const std::string& folder,
                                 PickleRules rules) {
  rules.storage_bytes = [&](const std::string& key) {
    const auto found = records_.find(folder + key);
    return found == records_.end() ? c10::nullopt : c10::make_optional(found->second.size);
  };
  try {
    return check_pickle(bytes, rules);
  } catch (const PickleDamage& damage) {
    if (!rules.python) fail_damaged(fmt::format("{} of {}", damage.what(), record));
    fail(fmt::format("{} is damaged or holds more than tensors, numbers and text in lists, tuples and dicts: {} of {}",
                     kind_.file, damage.what(), record));
  }
}

std::string TorchArchive::read_pickle(const std::string& record, const std::string& folder, PickleRules rules) {
  std::string bytes = read(record);
  checked(bytes, record, folder, std::move(rules));
  return bytes;
}

/// For a value that an enum does not have, LibTorch leaves its stack one short.
void TorchArchive::check_enums(const PickleTree& tree) {
  for (const auto& node : tree.nodes) {
    if (node.kind != PickleKind::kEnum) continue;
    const size_t line = node.text.find('\n');
    std::string record = "code/" + std::string(node.text.substr(0, line)) + ".py";
    std::replace(record.begin() + 5, record.end() - 3, '.', '/');
    const std::string_view name = node.text.substr(line + 1, node.text.size() - line - 2);
    if (has(record) && !enum_may_be(read(record), name, tree.part(node, 0))) {
      fail_damaged(fmt::format("the enum {} has no such value", name));
    }
  }
}

void TorchArchive::check_code() {
  std::set<std::string> missing;
  for (const auto& [name, member] : records_) {
    if (name.compare(0, 5, "code/") != 0) continue;
    if (has_ending(name, ".py")) {
      const std::string code = read(name);
      if (is_nested_too_deeply(code)) fail_damaged(fmt::format("the code in {} is nested too deeply", name));
      if (has_untyped_constant(code)) fail_damaged(fmt::format("a constant in {} has no type", name));
      missing.merge(undefined_names(code));
    } else if (has_ending(name, ".debug_pkl")) {
      const std::string bytes = read(name);
      if (!debug_records_fit(checked(bytes, name, "", {}))) fail_damaged(fmt::format("{} has another form", name));
    }
  }
  if (missing.empty()) return;
  throw Error(kind_.code,
              fmt::format("the file uses definitions that no loaded library has: {}", fmt::join(missing, ", ")), path_,
              "load the library that defines them first (dlopen, or --library FILE)");
}

/// Whether LibTorch looks at the values of tensors while it loads the module, or may do so.
bool TorchArchive::computes_when_loaded() {
  const auto names_any = [](const std::string& text, std::initializer_list<const char*> words) {
    return std::any_of(words.begin(), words.end(),
                       [&](const char* word) { return text.find(word) != std::string::npos; });
  };
  if (!has("data.pkl") || !has("constants.pkl") || has("model.json")) return true;
  for (const auto& [name, member] : records_) {
    if (has_ending(name, ".pkl") && name.find('/') == std::string::npos &&
        names_any(read(name), {"_rebuild_qtensor", "_rebuild_sparse_tensor", "torch.classes."})) {
      return true;
    }
    if (has_ending(name, ".py") && names_any(read(name), {"__setstate__"})) return true;
  }
  return false;
}

/// Offsets and sizes of the records whose bytes can be used where they are.
std::map<uint64_t, uint64_t> TorchArchive::large_tensors() {
  constexpr uint64_t kLarge = 16384;   // a mapping costs whole pages
  constexpr uint64_t kAlignment = 64;  // of memory that LibTorch allocates
  constexpr size_t kMost = 20000;      // Linux gives a process 65530 mappings
  std::map<uint64_t, uint64_t> found;
  for (const auto& [name, member] : records_) {
    const bool tensor = name.compare(0, 5, "data/") == 0 || name.compare(0, 10, "constants/") == 0;
    if (!tensor || member.method != 0 || member.compressed != member.size || member.size < kLarge) continue;
    try {
      const uint64_t offset = zip_->data_offset(member);
      if (offset % kAlignment == 0) found.emplace(offset, member.size);
    } catch (const Error&) {
      fail_damaged(fmt::format("the record {} cannot be read", name));
    }
  }
  if (found.size() > kMost) found.clear();
  return found;
}

torch::jit::Module TorchArchive::load_module(TensorValues values) {
  if (!has("constants.pkl") && !has("model.json")) {
    throw Error(kind_.code, "the archive holds no TorchScript module", path_,
                "a file written by torch.save holds tensors or a Python object only; use torch.jit.save");
  }
  check_code();
  for (const auto& [record, folder] :
       {std::pair{"data.pkl", "data/"}, {"constants.pkl", "constants/"}, {"attributes.pkl", "tensors/"}}) {
    if (!has(record)) continue;
    PickleRules rules;
    rules.classes = true;
    const std::string bytes = read(record);
    check_enums(checked(bytes, record, folder, rules));
  }
  torch::jit::Module module;
  try {
    c10::optional<torch::jit::Module> mapped;
    if (values == TensorValues::kInFile && !computes_when_loaded()) mapped = load_mapped_module(path_, large_tensors());
    module = mapped ? *mapped : torch::jit::load(path_, c10::kCPU);
  } catch (const std::exception& error) {
    fail(fmt::format("LibTorch cannot load {}: {}", kind_.file, short_message(error)));
  }
  const std::string fault = module_fault(module);
  if (!fault.empty()) fail_damaged(fault);
  return module;
}

}  // namespace tsquant

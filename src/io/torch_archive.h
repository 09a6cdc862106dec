#pragma once

#include <torch/csrc/jit/api/module.h>

#include <map>
#include <set>
#include <string>

#include "io/pickle_check.h"
#include "io/zip_reader.h"
#include "tsquant/error.h"

namespace tsquant {

/// How faults of an archive are reported.
struct ArchiveKind {
  ErrorCode code;
  std::string file;  ///< "the model file": begins the messages
  std::string advice;
};

/// Where the values of a loaded module are.
enum class TensorValues {
  kInMemory,
  /// Those of large tensors stay in the file, which must not be changed while they are used, and are read page by page
  /// when that happens. In memory all the same when the archive does not allow it: a class has `__setstate__`, tensors
  /// are quantized or sparse, or records are deflated.
  kInFile,
};

/// Of models, float and quantized.
const ArchiveKind& model_archive();

/// An archive of torch.jit.save or torch.save. LibTorch 1.13 trusts what it reads: damaged records make it take from
/// empty stacks and read behind buffers. Here they are read and checked first; every fault is an Error of one sentence
/// with the code of the kind. Records outside of the archive's folder are not seen.
class TorchArchive {
 public:
  /// @throws Error when the file does not exist, cannot be read or is no archive
  TorchArchive(const std::string& path, const ArchiveKind& kind);

  bool has(const std::string& record) const { return records_.count(record) > 0; }
  std::string read(const std::string& record);
  /// Names below the folder, in order.
  std::vector<std::string> names() const;

  /// Bytes of a pickle that may be given to LibTorch.
  /// @param rules storages are looked up in `folder`
  std::string read_pickle(const std::string& record, const std::string& folder, PickleRules rules);

  /// Checks everything that torch::jit::load reads, loads the module to the CPU and checks its attributes.
  torch::jit::Module load_module(TensorValues values = TensorValues::kInMemory);

  [[noreturn]] void fail(const std::string& message) const;
  [[noreturn]] void fail_damaged(const std::string& why) const;

 private:
  void check_file() const;
  void check_code();
  void check_enums(const PickleTree& tree);
  bool computes_when_loaded();
  std::map<uint64_t, uint64_t> large_tensors();
  PickleTree checked(const std::string& bytes, const std::string& record, const std::string& folder, PickleRules rules);

  std::string path_;
  ArchiveKind kind_;
  std::unique_ptr<ZipReader> zip_;
  std::map<std::string, ZipReader::Member> records_;
};

}  // namespace tsquant

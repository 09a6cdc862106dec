#pragma once

#include <cstddef>
#include <string>

#include "io/output_target.h"

namespace tsquant {

/// The one place that writes files. What is written is staged, and stands under its name only after `commit`: a file
/// that is replaced keeps its old content, and its permissions, until the new content is complete. Devices, FIFOs and
/// open descriptors are never replaced: `commit` writes into them.
///
/// ```cpp
/// OutputFile file(path, "report");
/// file.write(text);
/// file.commit();
/// ```
class OutputFile {
 public:
  /// @param what the content in the words of messages: "model", "report"
  /// @throws Error kIo when nothing can be written there
  OutputFile(const std::string& path, const std::string& what);
  /// Without `commit` nothing stays behind.
  ~OutputFile();
  OutputFile(const OutputFile&) = delete;
  OutputFile& operator=(const OutputFile&) = delete;

  /// Appends. Does not throw, since LibTorch's archive writer ends the process when a write fails: the first failure is
  /// kept for `require_written`, and what follows it is dropped.
  void write(const void* data, size_t size) noexcept;
  void write(const std::string& text) noexcept { write(text.data(), text.size()); }

  const std::string& path() const { return target_.given; }

  /// @throws Error kIo when a write failed
  void require_written() const;

  /// Where what was written so far can be read, or written, before it stands under its name.
  const std::string& staged_path() const { return staged_path_; }

  /// @throws Error kIo; then the old content is still there
  void commit();

 private:
  void stage_beside_target();
  void stage_in_memory();
  void replace_target();
  void copy_into_target();

  OutputTarget target_;
  std::string what_, staged_path_;
  int staged_ = -1;     ///< descriptor
  int failure_ = 0;     ///< number of the first error
  bool named_ = false;  ///< `staged_path_` is a file of ours in a folder
};

/// Whether a name is one of those that files have before `commit`. A killed run may leave one behind.
bool is_staged_file(const std::string& name);

/// A whole file at once. @throws Error kIo
void write_file(const std::string& path, const std::string& what, const std::string& content);

}  // namespace tsquant

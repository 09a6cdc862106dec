#pragma once

#include <sys/stat.h>

#include <string>

namespace tsquant {

/// What the path of an output stands for, once links have been followed.
struct OutputTarget {
  std::string given;     ///< as the user wrote it, for messages
  std::string path;      ///< absolute and without links
  std::string folder;    ///< that holds `path`
  bool exists = false;   ///< then `status` describes it
  bool replaced = true;  ///< a new name or a regular file; devices, FIFOs and open descriptors are written into instead
  int descriptor = -1;   ///< of this process, when the path names one: /dev/stdout, /dev/fd/63
  struct stat status = {};
};

/// @param what the content in the words of messages: "model", "report"
/// @throws Error kIo when nothing can be written there: no such folder, no permission, a folder, a name too long
OutputTarget writable_target(const std::string& path, const std::string& what);

/// Looks before the work whether a file could be written at its end; writes nothing. @throws Error kIo
void check_output(const std::string& path, const std::string& what);

/// The same for a folder that is made when it is missing. @throws Error kIo
void check_output_folder(const std::string& path, const std::string& what);

/// Whether two outputs, spelled alike or not, would replace the same file. @throws Error kIo as writable_target
bool same_output(const std::string& a, const std::string& b);

/// @param reason what the system said, or the number of its error
[[noreturn]] void fail_output(const std::string& path, const std::string& what, const std::string& reason);
[[noreturn]] void fail_output(const std::string& path, const std::string& what, int error_number);

}  // namespace tsquant

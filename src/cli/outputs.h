#pragma once

#include <string>
#include <vector>

namespace tsquant::cli {

/// An option that names a file to write; the path may be empty (not given) or "-" (stdout).
struct Output {
  std::string option, path, content;  ///< content in the words of messages: "model", "JSON"
};

/// Looks, before any work, whether all outputs can be written.
/// @throws Error kIo; kInvalidArgument when two have one name, however they are spelled
void check_outputs(const std::vector<Output>& outputs);

}  // namespace tsquant::cli

#pragma once

#include <string>

namespace tsquant {

/// A text stored beside the module in an archive (`extra/<name>`), read without loading the module; "" when there is
/// none. @throws Error kModelLoad when the file is no archive
std::string read_extra_file(const std::string& path, const std::string& name);

}  // namespace tsquant

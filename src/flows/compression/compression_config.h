#pragma once

#include <nlohmann/json.hpp>
#include <string>

namespace tsquant {

/// Whether a configuration file is one of read_compress_options, and not one of NNCF: it has one of the options at its
/// top. False when it cannot be read, which is told by who reads it.
bool is_compression_config(const std::string& path);

}  // namespace tsquant

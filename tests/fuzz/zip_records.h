#pragma once

#include <string>
#include <utility>
#include <vector>

namespace tsquant::fuzz {

/// Name and bytes of the files in an archive, in order.
using Records = std::vector<std::pair<std::string, std::string>>;

/// @return nothing for a file that is no archive
Records read_zip(const std::string& path);

/// Writes stored files with right checksums, so that a reader comes as far as their content.
std::string write_zip(const Records& records);

}  // namespace tsquant::fuzz

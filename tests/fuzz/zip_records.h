#pragma once

#include <string>
#include <utility>
#include <vector>

namespace tsquant::fuzz {

/// Name and bytes of the files in an archive, in order.
using Records = std::vector<std::pair<std::string, std::string>>;

/// Reads an archive of stored files, as LibTorch writes them. @return nothing for other files
Records read_zip(const std::string& bytes);

/// Writes stored files with right checksums, so that a reader comes as far as their content.
std::string write_zip(const Records& records);

}  // namespace tsquant::fuzz

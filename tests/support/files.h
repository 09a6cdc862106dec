#pragma once

#include <fstream>
#include <iterator>
#include <string>

namespace tsquant::testing {

/// Everything in a file; empty when it cannot be read.
inline std::string bytes_of(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

}  // namespace tsquant::testing

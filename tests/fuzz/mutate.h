#pragma once

#include <random>
#include <string>

namespace tsquant::fuzz {

using Random = std::mt19937_64;

std::string read_file(const std::string& path);

/// The bytes of a file, damaged: single bytes and stretches of it, or, in an archive, the content, name or presence of
/// one record with a right checksum, so that the damage is met behind the reader of the archive.
std::string mutate(const std::string& path, Random& random);

}  // namespace tsquant::fuzz

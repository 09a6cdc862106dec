#include "fuzz/zip_records.h"

#include <zlib.h>

#include <cstdint>

#include "io/zip_reader.h"
#include "tsquant/error.h"

namespace tsquant::fuzz {

namespace {

constexpr uint32_t kLocal = 0x04034b50, kCentral = 0x02014b50, kEnd = 0x06054b50;

void append(std::string& bytes, uint32_t number, int size) {
  for (int i = 0; i < size; ++i) bytes.push_back(static_cast<char>(number >> 8 * i));
}

/// What local and central headers have in common, from the version to the length of the extra field.
void append_facts(std::string& bytes, const std::string& name, const std::string& content) {
  const auto size = static_cast<uint32_t>(content.size());
  append(bytes, 0, 4);  // flags, method: stored
  append(bytes, 0, 4);  // time
  append(bytes, crc32(0, reinterpret_cast<const Bytef*>(content.data()), size), 4);
  append(bytes, size, 4);
  append(bytes, size, 4);
  append(bytes, static_cast<uint32_t>(name.size()), 2);
  append(bytes, 0, 2);
}

}  // namespace

Records read_zip(const std::string& path) {
  Records records;
  try {
    ZipReader reader(path);
    for (const auto& member : reader.members()) {
      const auto bytes = reader.read(member);
      records.emplace_back(member.name, std::string(bytes.begin(), bytes.end()));
    }
  } catch (const Error&) {
    return {};
  }
  return records;
}

std::string write_zip(const Records& records) {
  std::string bytes, directory;
  for (const auto& [name, content] : records) {
    const auto offset = static_cast<uint32_t>(bytes.size());
    append(bytes, kLocal, 4);
    append(bytes, 20, 2);
    append_facts(bytes, name, content);
    bytes += name + content;
    append(directory, kCentral, 4);
    append(directory, 20, 2);
    append(directory, 20, 2);
    append_facts(directory, name, content);
    append(directory, 0, 2);  // comment
    append(directory, 0, 4);  // disk, attributes
    append(directory, 0, 4);
    append(directory, offset, 4);
    directory += name;
  }
  const auto start = static_cast<uint32_t>(bytes.size()), count = static_cast<uint32_t>(records.size());
  bytes += directory;
  append(bytes, kEnd, 4);
  append(bytes, 0, 4);
  append(bytes, count, 2);
  append(bytes, count, 2);
  append(bytes, static_cast<uint32_t>(directory.size()), 4);
  append(bytes, start, 4);
  append(bytes, 0, 2);
  return bytes;
}

}  // namespace tsquant::fuzz

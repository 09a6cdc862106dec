#include "fuzz/zip_records.h"

#include <zlib.h>

#include <cstdint>

namespace tsquant::fuzz {

namespace {

constexpr uint32_t kLocal = 0x04034b50, kCentral = 0x02014b50, kEnd = 0x06054b50;
constexpr size_t kCentralSize = 46, kLocalSize = 30;

uint32_t number_at(const std::string& bytes, size_t at, int size) {
  uint32_t number = 0;
  for (int i = size - 1; i >= 0; --i) number = number << 8 | static_cast<unsigned char>(bytes.at(at + i));
  return number;
}

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

Records read_zip(const std::string& bytes) {
  const size_t end = bytes.rfind("PK\x05\x06");
  if (end == std::string::npos) return {};
  Records records;
  size_t at = number_at(bytes, end + 16, 4);
  for (uint32_t left = number_at(bytes, end + 10, 2); left > 0; --left) {
    const uint32_t size = number_at(bytes, at + 20, 4), name = number_at(bytes, at + 28, 2);
    const size_t local = number_at(bytes, at + 42, 4);
    const size_t content = local + kLocalSize + number_at(bytes, local + 26, 2) + number_at(bytes, local + 28, 2);
    records.emplace_back(bytes.substr(at + kCentralSize, name), bytes.substr(content, size));
    at += kCentralSize + name + number_at(bytes, at + 30, 2) + number_at(bytes, at + 32, 2);
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

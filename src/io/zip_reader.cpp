#include "io/zip_reader.h"

#include <zlib.h>

#include <algorithm>
#include <cstring>
#include <limits>

#include "tsquant/error.h"

namespace tsquant {

namespace {

// Layout: APPNOTE.TXT, sections 4.3.7 (local header), 4.3.12 (central directory), 4.3.16 (end record), 4.5.3 (zip64).
constexpr uint32_t kEndRecord = 0x06054b50, kDirectoryEntry = 0x02014b50, kLocalHeader = 0x04034b50;
constexpr uint32_t kZip64EndRecord = 0x06064b50, kZip64Locator = 0x07064b50;
constexpr size_t kEndSize = 22, kEntrySize = 46, kLocalSize = 30, kLocatorSize = 20, kZip64EndSize = 56;
constexpr uint64_t kMaxDeflateRatio = 1032;  // the format cannot compress further

template <typename T>
T number(const char* bytes) {
  T value;
  std::memcpy(&value, bytes, sizeof(T));
  return value;
}

}  // namespace

void ZipReader::fail(const std::string& message) const {
  throw Error(ErrorCode::kDataset, message, path_, "write the file again with numpy.savez");
}

ZipReader::ZipReader(const std::string& path) : path_(path), file_(path, std::ios::binary | std::ios::ate) {
  if (!file_) throw Error(ErrorCode::kDataset, "cannot read the data file", path, "check that it exists");
  file_size_ = static_cast<uint64_t>(file_.tellg());
  read_directory();
}

std::vector<char> ZipReader::bytes_at(uint64_t offset, uint64_t size) {
  if (offset > file_size_ || size > file_size_ - offset) fail("the zip file is damaged or truncated");
  std::vector<char> bytes(size);
  file_.seekg(static_cast<std::streamoff>(offset));
  file_.read(bytes.data(), static_cast<std::streamsize>(size));
  if (!file_) fail("the zip file is damaged or truncated");
  return bytes;
}

void ZipReader::read_directory() {
  // The end record is the last thing in the file, before a comment of at most 65535 bytes.
  const uint64_t tail_size = std::min<uint64_t>(file_size_, kEndSize + 65535);
  const auto tail = bytes_at(file_size_ - tail_size, tail_size);
  int64_t end = static_cast<int64_t>(tail_size) - static_cast<int64_t>(kEndSize);
  while (end >= 0 && number<uint32_t>(tail.data() + end) != kEndRecord) --end;
  if (end < 0) fail("this is no zip file, or it is truncated");
  uint64_t size = number<uint32_t>(tail.data() + end + 12), offset = number<uint32_t>(tail.data() + end + 16);
  if (end >= static_cast<int64_t>(kLocatorSize) &&
      number<uint32_t>(tail.data() + end - kLocatorSize) == kZip64Locator) {
    const auto record = bytes_at(number<uint64_t>(tail.data() + end - kLocatorSize + 8), kZip64EndSize);
    if (number<uint32_t>(record.data()) != kZip64EndRecord) fail("the zip file is damaged");
    size = number<uint64_t>(record.data() + 40);
    offset = number<uint64_t>(record.data() + 48);
  }
  const auto directory = bytes_at(offset, size);
  for (size_t at = 0; at + kEntrySize <= directory.size();) {
    const char* entry = directory.data() + at;
    if (number<uint32_t>(entry) != kDirectoryEntry) fail("the zip file is damaged");
    const size_t name = number<uint16_t>(entry + 28), extra = number<uint16_t>(entry + 30);
    const size_t total = kEntrySize + name + extra + number<uint16_t>(entry + 32);
    if (at + total > directory.size()) fail("the zip file is damaged");
    Member member;
    member.method = number<uint16_t>(entry + 10);
    member.compressed = number<uint32_t>(entry + 20);
    member.size = number<uint32_t>(entry + 24);
    member.offset = number<uint32_t>(entry + 42);
    member.name.assign(entry + kEntrySize, name);
    // Sizes of 4 GB and more stand in the zip64 extra field, in this order.
    const char* field = entry + kEntrySize + name;
    const char* const last = field + extra;
    while (field + 4 <= last) {
      const char* const next = field + 4 + number<uint16_t>(field + 2);
      if (number<uint16_t>(field) == 1) {
        const char* word = field + 4;
        for (uint64_t* value : {&member.size, &member.compressed, &member.offset}) {
          if (*value == std::numeric_limits<uint32_t>::max() && word + 8 <= std::min(next, last)) {
            *value = number<uint64_t>(word);
            word += 8;
          }
        }
      }
      field = next;
    }
    members_.push_back(std::move(member));
    at += total;
  }
}

uint64_t ZipReader::data_offset(const Member& member) {
  const auto header = bytes_at(member.offset, kLocalSize);
  if (number<uint32_t>(header.data()) != kLocalHeader) fail("the zip file is damaged");
  return member.offset + kLocalSize + number<uint16_t>(header.data() + 26) + number<uint16_t>(header.data() + 28);
}

std::vector<char> ZipReader::read(const Member& member) {
  auto packed = bytes_at(data_offset(member), member.compressed);
  if (member.method == 0) return packed;
  if (member.method != 8) fail("member " + member.name + " uses an unknown compression");
  if (member.size > (member.compressed + 1) * kMaxDeflateRatio) fail("the zip file is damaged");
  std::vector<char> bytes(member.size);
  z_stream stream{};
  if (inflateInit2(&stream, -MAX_WBITS) != Z_OK) fail("zlib does not start");
  size_t in = 0, out = 0;
  int status = Z_OK;
  // zlib counts in 32 bits, so large members pass in pieces.
  constexpr size_t kPiece = size_t{1} << 30;
  while (status == Z_OK) {
    const auto give = static_cast<uInt>(std::min(kPiece, packed.size() - in));
    const auto room = static_cast<uInt>(std::min(kPiece, bytes.size() - out));
    stream.next_in = reinterpret_cast<Bytef*>(packed.data() + in);
    stream.avail_in = give;
    stream.next_out = reinterpret_cast<Bytef*>(bytes.data() + out);
    stream.avail_out = room;
    status = inflate(&stream, Z_NO_FLUSH);
    in += give - stream.avail_in;
    out += room - stream.avail_out;
  }
  inflateEnd(&stream);
  if (status != Z_STREAM_END || out != bytes.size()) fail("member " + member.name + " is damaged");
  return bytes;
}

}  // namespace tsquant

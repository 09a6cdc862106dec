#include "io/pickle_stream.h"

namespace tsquant {

bool PickleStream::next() {
  if (end_ >= bytes_.size()) return false;
  begin_ = end_;
  argument_ = ++end_;
  return skip_argument();
}

uint64_t PickleStream::little_endian(std::string_view bytes) {
  uint64_t value = 0;
  for (size_t i = bytes.size(); i-- > 0;) value = value << 8 | static_cast<unsigned char>(bytes[i]);
  return value;
}

bool PickleStream::skip(uint64_t bytes) {
  if (bytes > bytes_.size() - end_) return false;
  end_ += static_cast<size_t>(bytes);
  return true;
}

/// Skips as many bytes as a number of `width` bytes says.
bool PickleStream::skip_counted(size_t width) {
  if (!skip(width)) return false;
  const uint64_t length = number();
  argument_ = end_;
  return skip(length);
}

bool PickleStream::skip_line() {
  const size_t end = bytes_.find('\n', end_);
  if (end == std::string::npos) return false;
  end_ = end + 1;
  return true;
}

bool PickleStream::skip_argument() {
  switch (code()) {
    case '\x80':  // PROTO
    case 'K':     // BININT1
    case 'q':     // BINPUT
    case 'h':     // BINGET
      return skip(1);
    case 'M':  // BININT2
      return skip(2);
    case 'J':  // BININT
    case 'r':  // LONG_BINPUT
    case 'j':  // LONG_BINGET
      return skip(4);
    case 'G':  // BINFLOAT
      return skip(8);
    case '\x8a':  // LONG1
    case 'U':     // SHORT_BINSTRING
      return skip_counted(1);
    case 'X':  // BINUNICODE
    case 'T':  // BINSTRING
      return skip_counted(4);
    case 'c':  // GLOBAL
      return skip_line() && skip_line();
    default:
      return true;
  }
}

}  // namespace tsquant

#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace tsquant {

/// Steps through the opcodes of a pickle stream and their arguments without building objects. It knows the opcodes that
/// torch.save (protocol 2) and LibTorch write (Python's Lib/pickletools.py); any other counts as one without argument.
class PickleStream {
 public:
  /// @param bytes must outlive the stream
  explicit PickleStream(const std::string& bytes) : bytes_(bytes) {}

  /// Goes to the next opcode; false at the end of the bytes and where an argument is cut off.
  bool next();

  char code() const { return bytes_[begin_]; }
  size_t begin() const { return begin_; }  ///< the first byte of the opcode
  size_t end() const { return end_; }      ///< the byte behind its argument
  /// The whole instruction.
  std::string_view bytes() const { return std::string_view(bytes_).substr(begin_, end_ - begin_); }
  /// The argument's bytes without the length in front of them; of GLOBAL both lines.
  std::string_view argument() const { return std::string_view(bytes_).substr(argument_, end_ - argument_); }
  /// The argument as an unsigned little-endian number.
  uint64_t number() const { return little_endian(argument()); }

 private:
  static uint64_t little_endian(std::string_view bytes);
  bool skip(uint64_t bytes);
  bool skip_counted(size_t width);
  bool skip_line();
  bool skip_argument();

  const std::string& bytes_;
  size_t begin_ = 0, argument_ = 0, end_ = 0;
};

}  // namespace tsquant

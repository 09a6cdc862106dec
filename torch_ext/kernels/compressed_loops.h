// The inner loops over packed codes of weights: plain pointers, one thread, SIMD chosen at run time (isa.h limits it).
#pragma once

#include <cstdint>

namespace tsquant::kernels {

/// What a code stands for, before it is multiplied with a scale.
enum class LevelKind {
  kSigned,    ///< the byte as int8
  kUnsigned,  ///< the byte as uint8, less the zero point of its group
  kE4M3,      ///< FP8 numbers
  kE5M2,
  kTable16,   ///< table[byte], byte < 16
  kTable256,  ///< table[byte]
};

/// How the codes of one row become values: level * scale of the group that the code is in.
struct RowLevels {
  LevelKind kind = LevelKind::kSigned;
  const float* table = nullptr;    ///< of kTable16 and kTable256
  const float* scales = nullptr;   ///< one per group
  const uint8_t* zeros = nullptr;  ///< one per group, of kUnsigned
  int64_t group_size = 1;
};

/// Codes [begin, begin + count) of a packed row of n codes, one in a byte, each less `offset` (modulo 256).
/// @param begin a multiple of 8
void unpack_codes(const uint8_t* packed, int64_t n, int bits, int64_t begin, int64_t count, int offset, uint8_t* codes);

/// Values of elements [begin, begin + count) of a row.
/// @param codes those of these elements
void dequantize_codes(const RowLevels& row, const uint8_t* codes, int64_t begin, int64_t count, float* values);

/// float16 as its bits
void halves_to_floats(const uint16_t* halves, int64_t n, float* values);

}  // namespace tsquant::kernels

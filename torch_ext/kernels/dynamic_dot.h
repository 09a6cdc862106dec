// Products of a few rows of packed integer codes with one row of inputs that are int8: what a linear layer with
// dynamically quantized activations does while it generates tokens. The same sums as those of dynamic_gemm.h, bit for
// bit.
#pragma once

#include <cstdint>

namespace tsquant::kernels {

/// Rows of weights that are summed together.
constexpr int64_t kDotRows = 8;

/// Bytes of codes that a step reads.
constexpr int64_t kDotBytes = 32;

/// How bytes hold codes.
enum class DotCodes {
  kQuarters,   ///< four codes of 2 bits
  kThreeBits,  ///< four codes of 3 bits: two of them, and behind all those of a row the third ones
  kHalves,     ///< two codes of 4 bits
  kBytes,      ///< one code of at most 7 bits
  kWide,       ///< one code of 8 bits
  kSigned,     ///< one int8
};
constexpr int64_t codes_per_byte(DotCodes codes) {
  if (codes == DotCodes::kQuarters || codes == DotCodes::kThreeBits) return 4;
  return codes == DotCodes::kHalves ? 2 : 1;
}

/// Whether rows of `groups` groups of this size can be read so.
bool supports_dot(DotCodes codes, int64_t groups, int64_t group_size);

/// Inputs in the order of codes: those of the same place in bytes of one step lie together.
/// @param arranged of arranged_size() bytes
void arrange_codes(DotCodes codes, const int8_t* x, int64_t n, int8_t* arranged);
int64_t arranged_size(DotCodes codes, int64_t n);

/// At most kDotRows rows of weights: value = (code - zero) * scale.
struct DotStrip {
  DotCodes form = DotCodes::kHalves;
  const uint8_t* codes = nullptr;
  int64_t stride = 0;  ///< bytes of a row
  int64_t rows = 0, groups = 0, group_size = 0;
  const float* scales = nullptr;   ///< [groups][kDotRows]
  const int32_t* zeros = nullptr;  ///< [groups][kDotRows]
};

/// totals[row] = products with one row of inputs.
/// @param x as arrange_codes makes it @param scales,sums of the groups of inputs
void dynamic_dot(const DotStrip& strip, const int8_t* x, const float* scales, const int32_t* sums, float* totals);

}  // namespace tsquant::kernels

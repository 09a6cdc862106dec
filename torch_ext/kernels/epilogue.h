#pragma once

#include <cstdint>

namespace tsquant::kernels {

/// What happens to the exact 32-bit sums. Every kernel performs these float32 operations in this order, so that all of
/// them give the same bits:
///   f = fma(float(sum), multiplier, bias)                     rounded once
///   floats:    y = min(high, max(low, f))                     a NaN stays one
///   middle:    f = min(middle_high, max(middle_low, rne(f))) * middle_multiplier
///   residual:  f = fma(float(other) - other_zero_point, other_multiplier, f)
///   codes:     q = min(high, max(low, int(rne(f)) + zero_point))
/// rne rounds to the nearest integer, ties to even. `middle` quantizes the convolution's own result before the residual
/// is added. The caller guarantees that rne(f) + zero_point fits into 32 bits.
struct Epilogue {
  const float* multiplier = nullptr;  ///< per output channel; kSlack more values may be read
  const float* bias = nullptr;        ///< the same
  uint8_t* codes = nullptr;           ///< first pixel and channel of the whole output, or null
  float* floats = nullptr;            ///< the same for float output
  const uint8_t* other = nullptr;     ///< residual codes, laid out like `codes`; may be null
  float other_multiplier = 0, other_zero_point = 0;
  bool middle = false;
  float middle_low = 0, middle_high = 0, middle_multiplier = 1;
  int32_t zero_point = 0, low = 0, high = 255;
  float float_low = 0, float_high = 0;
  int64_t pixel_stride = 0;  ///< elements between two pixels of the output

  static constexpr int64_t kSlack = 64;
};

}  // namespace tsquant::kernels

#pragma once

#include <cstdint>

namespace tsquant::kernels {

/// What happens to the 32-bit sums of one channel group. Arrays are padded to a multiple of 16 channels.
///   codes:  q = clamp(round(f [+ (other - other_zero_point) * other_multiplier]) + zero_point)
///           f = sum * multiplier + bias, or, when the result was quantized before a residual is added,
///           f = clamp(round(sum * multiplier + bias), middle_low, middle_high) * middle_multiplier
///   floats: y = clamp(sum * multiplier + bias)
struct Epilogue {
  const float* multiplier = nullptr;
  const float* bias = nullptr;
  uint8_t* codes = nullptr;        ///< first pixel and channel of the whole output, or null
  float* floats = nullptr;         ///< the same for float output
  const uint8_t* other = nullptr;  ///< residual codes, laid out like `codes`; may be null
  float other_multiplier = 0, other_zero_point = 0;
  bool middle = false;  ///< quantize before the residual is added
  float middle_low = 0, middle_high = 0, middle_multiplier = 1;
  int32_t zero_point = 0, low = 0, high = 255;
  float float_low = 0, float_high = 0;
  int64_t pixel_stride = 0;  ///< elements between two pixels of the output
};

}  // namespace tsquant::kernels

#pragma once

#include <cstdint>

namespace tsquant {

/// The integer codes that values become: the lowest and the highest one.
struct CodeBounds {
  float low = -128, high = 127;
};

/// The codes nearest to x / scale + zero_point, ties to even, as bytes of int8 or uint8; each row has a scale and a
/// zero point. Values beyond the last codes become these, NaN the lowest code.
/// @param x,codes [rows, size] @param scale,zero_point [rows]
void encode_rows(const float* x, int64_t rows, int64_t size, const float* scale, const float* zero_point,
                 const CodeBounds& bounds, uint8_t* codes);

/// The smallest and the largest value of each row; NaN for both when a value of it is NaN.
/// @param x [rows, size], size at least 1 @param low,high [rows]
void ranges_of_rows(const float* x, int64_t rows, int64_t size, float* low, float* high);

}  // namespace tsquant

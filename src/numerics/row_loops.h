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

/// Whether every range has finite ends in order. @param low,high [count]
bool are_ranges(const float* low, const float* high, int64_t count);

/// For each range the scale whose codes reach from its lowest to its highest value, and the code of 0, or the nearest
/// one where the range does not hold 0. Scales below the machine precision become that.
/// @param low,high,scale,zero_point [count]
void asymmetric_parameters(const float* low, const float* high, int64_t count, const CodeBounds& bounds, float* scale,
                           int64_t* zero_point);

/// Of several ranges.
struct RangeExtremes {
  float width = 0;     ///< of the widest one
  float distance = 0;  ///< from 0 of the one that is furthest from it; 0 when all hold 0
};

/// @param low,high [count], finite and in order
RangeExtremes extremes_of_ranges(const float* low, const float* high, int64_t count);

/// For each range the scale that makes its value of the largest magnitude the code -largest; negative where that value
/// is positive. Scales of magnitudes below the machine precision become that.
/// @param low,high,scale [count]
void symmetric_scales(const float* low, const float* high, int64_t count, float largest, float* scale);

}  // namespace tsquant

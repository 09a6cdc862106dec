#pragma once

#include <cstdint>

namespace tsquant {

/// The integer codes that values become.
struct IntegerGrid {
  float scale = 1, zero_point = 0;
  float low = -128, high = 127;  ///< lowest and highest code
};

/// The codes nearest to x / scale + zero_point, ties to even, as bytes of int8 or uint8. Values beyond the last codes
/// become these, NaN the lowest code.
void encode_row(const float* x, int64_t n, const IntegerGrid& grid, uint8_t* codes);

/// The smallest and the largest value; NaN for both when a value is NaN. @param n at least 1
void range_of_row(const float* x, int64_t n, float& smallest, float& largest);

}  // namespace tsquant

// Inputs of a linear layer as int8 codes with a scale for every group of every row, found while the model runs.
#pragma once

#include <cstdint>

#include "kernels/aligned_buffer.h"

namespace tsquant::kernels {

/// Codes of a group: x is about code * scale, symmetric, codes from -127 to 127.
struct DynamicGroup {
  float scale = 0;  ///< largest magnitude / 127; NaN when an element is infinite or NaN
  int32_t sum = 0;  ///< of the codes
};

/// Rounds to the nearest code, ties to even. A group whose magnitudes are all below 2^-100 becomes zeros.
DynamicGroup quantize_group(const float* x, int64_t n, int8_t* codes);

/// Rows of inputs, quantized one group after the other.
class DynamicInputs {
 public:
  /// @param x [inputs, groups * group_size]
  /// @param padded elements that a group takes; those behind its end are zero
  DynamicInputs(const float* x, int64_t inputs, int64_t groups, int64_t group_size, int64_t padded);

  int64_t inputs() const { return inputs_; }
  int64_t groups() const { return groups_; }
  /// Elements of a row, those behind the ends of groups included.
  int64_t row_size() const { return groups_ * padded_; }
  const int8_t* codes(int64_t input) const { return codes_.as<int8_t>() + input * row_size(); }
  const float* scales(int64_t input) const { return scales_.as<float>() + input * groups_; }
  const int32_t* sums(int64_t input) const { return sums_.as<int32_t>() + input * groups_; }

 private:
  int64_t inputs_, groups_, padded_;
  AlignedBuffer codes_, scales_, sums_;
};

}  // namespace tsquant::kernels

// The two ways in which a linear layer runs on compressed weights and inputs that it quantizes itself. Both give the
// same bits.
#pragma once

#include "kernels/compressed_products.h"

namespace tsquant::kernels {

/// Elements of a group up to which sums stay within 32 bits: (2^8 - 1) * 127 * 65536 < 2^31.
constexpr int64_t kMostSummed = 1 << 16;

/// Inputs up to which dynamic_products_of_few() is faster.
constexpr int64_t kFewDynamicInputs = 4;

/// Whether dynamic_products_of_few() knows this layout of codes and groups.
bool supports_dynamic_few(const CompressedMatrix& matrix);

/// @param c its matrix holds integers, in groups of at most kMostSummed; supports_dynamic_few()
void dynamic_products_of_few(const LinearCall& c);
/// @param c its matrix holds integers, in groups of at most kMostSummed
void dynamic_products_of_many(const LinearCall& c);

/// Scales and zeros of some rows of a matrix, [groups][width]: value = (code - zero) * scale. Codes are unsigned but
/// for those of 8 bits without zero points, which are int8.
class RowParameters {
 public:
  RowParameters(const CompressedMatrix& matrix, int64_t width);
  /// @param rows at most width; columns of rows that are not there are zero
  void start(int64_t row, int64_t rows);
  const float* scales(int64_t group) const { return scales_.as<float>() + group * width_; }
  const int32_t* zeros(int64_t group) const { return zeros_.as<int32_t>() + group * width_; }

 private:
  void transposed(const float* from, int64_t rows, float* to) const;

  const CompressedMatrix& matrix_;
  int64_t width_;
  AlignedBuffer rows_, scales_, zero_floats_, zeros_;
};

}  // namespace tsquant::kernels

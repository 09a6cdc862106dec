// The two ways in which a linear layer runs on compressed weights.
#pragma once

#include <cstdint>

#include "kernels/compressed_matrix.h"

namespace tsquant::kernels {

/// Inputs, float32 and dense, and what becomes of them: y = x * values.T + bias.
struct LinearCall {
  const CompressedMatrix& matrix;
  const float* x;  ///< [inputs, size]
  int64_t inputs;
  const float* bias;  ///< or null
  float* y;           ///< [inputs, rows]
};

/// Inputs up to which products_of_few() is faster.
constexpr int64_t kFewInputs = 8;

/// Reads the packed weight once and decodes it in registers. @param c at most kFewInputs inputs
void products_of_few(const LinearCall& c);

/// Decodes the weight into a buffer in the cache, once for 128 inputs.
void products_of_many(const LinearCall& c);

}  // namespace tsquant::kernels

#pragma once

#include <ATen/core/Tensor.h>

#include "numerics/qparams.h"

namespace tsquant {

/// A weight as codes and what turns them back.
struct CompressedWeight {
  at::Tensor codes;  ///< in the shape of the weight: int8 or uint8, one code in a byte
  QParams qparams;
};

/// The values that the codes stand for, float32.
inline at::Tensor decompress(const CompressedWeight& weight) { return dequantize(weight.codes, weight.qparams); }

}  // namespace tsquant

#pragma once

#include "tsquant/weight_only.h"

namespace tsquant {

/// Scales after their own quantization.
struct QuantizedScale {
  at::Tensor values;  ///< what the codes stand for, [out, groups]
  at::Tensor codes;   ///< with DoubleQuant::return_int
  c10::optional<at::Tensor> hyper_scale, mean;
};

/// @param scale [out, groups]; does not change
/// @throws Error kInvalidArgument for options out of their limits
QuantizedScale quantize_scale(const at::Tensor& scale, const DoubleQuant& options);

}  // namespace tsquant

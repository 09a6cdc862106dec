#pragma once

#include <ATen/core/Tensor.h>

#include "tsquant/format.h"

namespace tsquant {

/// Scales as a format stores them: scale * tensor_scale.
struct StoredScale {
  at::Tensor scale;
  at::Tensor tensor_scale;  ///< float32 [1]; undefined: 1
};

/// The scales nearest to the given ones that the format has; powers of two are rounded up, so that no value saturates.
/// E4M3 goes through float16 and may become zero, both as NNCF does: see do_float_quantization and
/// calculate_float_quantization_params of weight_lowering.py.
/// @param scale float32, positive
StoredScale store_scale(const at::Tensor& scale, ScaleFormat format);

}  // namespace tsquant

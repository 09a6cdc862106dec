#pragma once

#include <ATen/core/Tensor.h>

namespace tsquant {

/// The range of a tensor: float32 tensors of shape [1] (per tensor) or [channels].
struct Range {
  at::Tensor min, max;
};

}  // namespace tsquant

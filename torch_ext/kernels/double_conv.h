#pragma once

#include <ATen/core/Tensor.h>

#include "kernels/conv_spec.h"

namespace tsquant::kernels {

/// The convolution in double precision, where every sum is exact: what calls take that no integer kernel can serve.
/// @param spec checked @param x codes [batch, channels, spatial...] with one scale @param clamp the fused activation
/// @return float32
at::Tensor convolve_in_double(const ConvSpec& spec, const at::Tensor& x, bool clamp);

}  // namespace tsquant::kernels

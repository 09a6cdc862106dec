#pragma once

#include <ATen/core/Tensor.h>
#include <c10/util/Optional.h>

namespace tsquant::kernels {

/// aten::conv2d with a 1x1 kernel, stride 1 and no padding, on floats. One image of one pixel, as behind a global
/// pool, is a product of a matrix and a vector, for which LibTorch's convolution takes up to eight times as long.
at::Tensor pixel_conv(const at::Tensor& x, const at::Tensor& weight, const c10::optional<at::Tensor>& bias);

}  // namespace tsquant::kernels

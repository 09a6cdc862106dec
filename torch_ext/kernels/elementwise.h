#pragma once

#include <ATen/core/Tensor.h>

namespace tsquant::kernels {

/// Same codes as aten::quantize_per_tensor; a four-dimensional result is laid out channels-last, as the convolutions
/// want it.
at::Tensor quantize(const at::Tensor& x, double scale, int64_t zero_point, at::ScalarType dtype);

/// Sum of two quint8 tensors, optionally followed by relu. Shapes may broadcast.
at::Tensor add(const at::Tensor& a, const at::Tensor& b, bool relu, double scale, int64_t zero_point);

/// Any element-wise function of quint8 codes: `table` holds the code of the result for each of the 256 codes.
at::Tensor lookup(const at::Tensor& x, const at::Tensor& table, double scale, int64_t zero_point);

/// Mean over some dimensions; fast for the last two of [batch, channels, height, width].
at::Tensor mean(const at::Tensor& x, at::IntArrayRef dims, bool keepdim, double scale, int64_t zero_point);

}  // namespace tsquant::kernels

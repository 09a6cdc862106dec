// Operators of the lowered form that work code by code. Inputs are quint8 or qint8 tensors with one scale; a result has
// the type of the (first) input and its order of dimensions in memory. Inputs of any strides are taken.
#pragma once

#include <ATen/core/Tensor.h>

namespace tsquant::kernels {

/// Same codes as aten::quantize_per_tensor (see quantize_kernels.h for values beyond every range). A four- or
/// five-dimensional result is laid out channels-last, as the convolutions want it; any other keeps the order of `x`.
at::Tensor quantize(const at::Tensor& x, double scale, int64_t zero_point, at::ScalarType dtype);

/// Same values as aten::dequantize; the result has the layout of `x`.
at::Tensor dequantize(const at::Tensor& x);

/// Sum and product of two tensors of the same type, optionally followed by relu: the codes of dequantize, dequantize,
/// add or mul, [relu,] quantize. Shapes broadcast.
at::Tensor add(const at::Tensor& a, const at::Tensor& b, bool relu, double scale, int64_t zero_point);
at::Tensor mul(const at::Tensor& a, const at::Tensor& b, bool relu, double scale, int64_t zero_point);
/// The same with the codes of the result between two others.
at::Tensor clamped_add(const at::Tensor& a, const at::Tensor& b, int64_t low, int64_t high, double scale,
                       int64_t zero_point);
at::Tensor clamped_mul(const at::Tensor& a, const at::Tensor& b, int64_t low, int64_t high, double scale,
                       int64_t zero_point);

/// Any element-wise function of codes. `table` holds 256 bytes, for both types counted from the lowest code: the entry
/// at (code - lowest code) is (code of the result - lowest code), where the lowest code is 0 for quint8 and -128 for
/// qint8.
at::Tensor lookup(const at::Tensor& x, const at::Tensor& table, double scale, int64_t zero_point);

/// aten::cat of tensors of one type, each with its own scale and zero point: the codes of dequantize, cat, quantize.
/// Inputs whose parameters are those of the result are copied. One-dimensional tensors without elements are skipped.
at::Tensor cat(at::TensorList tensors, int64_t dim, double scale, int64_t zero_point);

}  // namespace tsquant::kernels

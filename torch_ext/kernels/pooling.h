// Pooling, means and resizing on codes: quint8 or qint8 tensors with one scale, of any strides; a result has the type
// of the input and its layout (channels innermost in memory if they are in the input). Shapes are [batch,] channels,
// spatial... with one to three spatial dimensions, given by the length of the first list.
#pragma once

#include <ATen/core/Tensor.h>

namespace tsquant::kernels {

/// aten::max_pool1d/2d/3d on codes; the result keeps scale and zero point. An empty stride is the kernel size.
at::Tensor max_pool(const at::Tensor& x, at::IntArrayRef kernel_size, at::IntArrayRef stride, at::IntArrayRef padding,
                    at::IntArrayRef dilation, bool ceil_mode);

/// The codes of dequantize, aten::avg_pool1d/2d/3d, quantize: the same divisor and the same order of float operations.
at::Tensor avg_pool(const at::Tensor& x, at::IntArrayRef kernel_size, at::IntArrayRef stride, at::IntArrayRef padding,
                    bool ceil_mode, bool count_include_pad, c10::optional<int64_t> divisor_override, double scale,
                    int64_t zero_point);

/// dequantize, aten::adaptive_avg_pool1d/2d/3d, quantize. An output size of -1 keeps the input's. As in LibTorch,
/// an output of one element per channel is a mean.
at::Tensor adaptive_avg_pool(const at::Tensor& x, at::IntArrayRef output_size, double scale, int64_t zero_point);

/// Mean over some dimensions, none: over all. The sum of codes is exact and rounded once, so that codes differ from
/// those of a mean of floats only where its rounding errors decide a tie.
at::Tensor mean(const at::Tensor& x, at::IntArrayRef dims, bool keepdim, double scale, int64_t zero_point);

/// The same with float results: exact sums, rounded once. An adaptive pool to more than one element per channel goes
/// through dequantize and LibTorch's own.
at::Tensor mean_float(const at::Tensor& x, at::IntArrayRef dims, bool keepdim);
at::Tensor adaptive_avg_pool_float(const at::Tensor& x, at::IntArrayRef output_size);

/// aten::upsample_nearest1d/2d/3d to a given size on codes; the result keeps scale and zero point.
at::Tensor upsample_nearest(const at::Tensor& x, at::IntArrayRef output_size);

}  // namespace tsquant::kernels

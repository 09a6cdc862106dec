#pragma once

#include <ATen/core/Tensor.h>

namespace tsquant {

/// The scale of one layer and how even it is.
struct SmoothScale {
  at::Tensor scale;  ///< float32 [input channels]; activations are divided by it, weights multiplied
  double ratio = 0;  ///< smallest / largest element; NaN or 0 when the scale cannot be used
};

/// s = a^alpha / w^(1 - alpha), limited to [its 0.1-quantile, 100]. Magnitudes below 1e-5 count as 1e-5.
/// Source: SmoothQuant (arXiv:2211.10438) with the limits of nncf/quantization/algorithms/smooth_quant.
/// @param activations largest magnitude of each input channel, [channels]
/// @param weights     largest magnitude of the weights that read each input channel, [channels]
/// @param alpha       0 to 1: share of the activations' range that moves into the weights
SmoothScale smooth_scale(const at::Tensor& activations, const at::Tensor& weights, double alpha);

/// Number of input channels of a linear or convolution weight: [out, in / groups, ...], or [in] for a linear layer with
/// one output.
int64_t input_channels(const at::Tensor& weight, int64_t groups);

/// Largest magnitude of the weights that read each input channel, float32 [input channels].
at::Tensor input_channel_maxima(const at::Tensor& weight, int64_t groups);

/// The weight with each input channel multiplied by its scale; same dtype.
/// @param scale [input channels]
at::Tensor scale_input_channels(const at::Tensor& weight, const at::Tensor& scale, int64_t groups);

}  // namespace tsquant

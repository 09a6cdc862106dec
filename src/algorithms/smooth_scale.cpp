#include "algorithms/smooth_scale.h"

#include <ATen/ATen.h>

#include <limits>

#include "graph/kernel_geometry.h"

namespace tsquant {

namespace {

constexpr double kSmallestMagnitude = 1e-5;
constexpr double kLowerQuantile = 0.1;
constexpr double kLargestScale = 1e2;
constexpr double kEps = std::numeric_limits<float>::epsilon();

/// [groups, out / groups, in / groups, positions]; a vector counts as one output channel.
at::Tensor by_group(const at::Tensor& weight, int64_t groups) {
  if (weight.dim() < 2) return weight.reshape({1, 1, -1, 1});
  return weight.reshape({groups, weight.size(0) / groups, weight.size(1), -1});
}

}  // namespace

SmoothScale smooth_scale(const at::Tensor& activations, const at::Tensor& weights, double alpha) {
  const at::Tensor a = activations.to(at::kFloat).clamp_min(kSmallestMagnitude);
  const at::Tensor w = weights.to(at::kFloat).clamp_min(kSmallestMagnitude);
  at::Tensor scale = a.pow(alpha) / (w.pow(1 - alpha) + kEps);
  const at::Tensor lowest = at::quantile(scale, kLowerQuantile);
  scale = at::minimum(at::maximum(scale, lowest), at::full({}, kLargestScale));
  const double ratio = (scale.min() / (scale.max() + kEps)).item<double>();
  return {scale, ratio};
}

int64_t input_channels(const at::Tensor& weight, int64_t groups) {
  return weight.dim() < 2 ? weight.numel() : WeightLayout{false, groups}.input_channels(weight.sizes());
}

at::Tensor input_channel_maxima(const at::Tensor& weight, int64_t groups) {
  return by_group(weight, groups).abs().amax({1, 3}).flatten().to(at::kFloat);
}

at::Tensor scale_input_channels(const at::Tensor& weight, const at::Tensor& scale, int64_t groups) {
  const at::Tensor grouped = by_group(weight, groups);
  const at::Tensor scaled = grouped.to(at::kFloat) * scale.reshape({grouped.size(0), 1, grouped.size(2), 1});
  return scaled.reshape(weight.sizes()).to(weight.dtype());
}

}  // namespace tsquant

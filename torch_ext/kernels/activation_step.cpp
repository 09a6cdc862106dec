#include "kernels/activation_step.h"

#include <ATen/ATen.h>

#include <algorithm>

namespace tsquant::kernels {

ActivationStep::ActivationStep(const std::string& name, const c10::optional<at::Tensor>& channel_factors,
                               int64_t channels)
    : activation(activation_named(name)) {
  if (!channel_factors) return;
  TORCH_CHECK(channel_factors->scalar_type() == at::kFloat && channel_factors->device().is_cpu() &&
                  channel_factors->numel() == channels,
              "tsquant: the factors behind an activation must be one float32 for each of the ", channels,
              " output channels, but are ", channel_factors->scalar_type(), " of shape ", channel_factors->sizes());
  factors = channel_factors->reshape({channels}).contiguous();
}

std::vector<float> ActivationStep::padded_factors() const {
  if (!factors.defined()) return {};
  const auto channels = static_cast<size_t>(factors.numel());
  std::vector<float> padded(channels + Epilogue::kSlack, 0.0f);
  std::copy_n(factors.data_ptr<float>(), channels, padded.begin());
  return padded;
}

at::Tensor ActivationStep::apply(const at::Tensor& y, int64_t axis) const {
  at::Tensor result = y.clone(at::MemoryFormat::Contiguous);
  float* values = result.data_ptr<float>();
  std::transform(values, values + result.numel(), values, [&](float v) { return activate(activation, v); });
  if (!factors.defined()) return result;
  std::vector<int64_t> shape(static_cast<size_t>(y.dim()), 1);
  shape[static_cast<size_t>(axis < 0 ? axis + y.dim() : axis)] = factors.numel();
  return result.mul_(factors.reshape(shape));
}

}  // namespace tsquant::kernels

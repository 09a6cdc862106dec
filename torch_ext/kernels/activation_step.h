#pragma once

#include <ATen/core/Tensor.h>
#include <c10/util/Optional.h>

#include <cstdint>
#include <string>
#include <vector>

#include "kernels/activation.h"

namespace tsquant::kernels {

/// What stands between a layer's float result and its quantization: an activation and, behind it, a factor for every
/// output channel.
struct ActivationStep {
  /// Throws c10::Error for an unknown name, and for factors that are not one float per channel.
  ActivationStep(const std::string& name, const c10::optional<at::Tensor>& channel_factors, int64_t channels);

  /// The factors and Epilogue::kSlack more values; empty without factors.
  std::vector<float> padded_factors() const;
  /// The step on floats, for what the kernels cannot compute. `axis` is that of the channels.
  at::Tensor apply(const at::Tensor& y, int64_t axis) const;

  Activation activation;
  at::Tensor factors;  ///< [channels], or undefined
};

}  // namespace tsquant::kernels

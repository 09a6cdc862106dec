#pragma once

#include <ATen/core/Tensor.h>
#include <torch/custom_class.h>

#include <string>
#include <tuple>

#include "kernels/activation_step.h"
#include "kernels/conv_core.h"

namespace tsquant::kernels {

/// What is written into a model file: codes, scales, bias, the five integer lists [stride, padding, dilation,
/// output_padding, (groups, transposed)], and the clamp bounds.
using ConvState = std::tuple<at::Tensor, at::Tensor, c10::optional<at::Tensor>, std::vector<std::vector<int64_t>>,
                             std::vector<double>>;

/// Scale and zero point of a result.
struct Target {
  double scale = 1;
  int64_t zero_point = 0;
};

/// Quantization of a result that is computed with, and the codes that bound it; without bounds, those of the type.
struct Middle {
  Target target;
  c10::optional<int64_t> low, high;
};

/// TorchScript object that holds a quantized convolution (`torch.classes.tsquant.ConvParams`).
class ConvParams : public torch::CustomClassHolder {
 public:
  explicit ConvParams(const ConvSpec& spec);
  static c10::intrusive_ptr<ConvParams> from_state(const ConvState& state);

  ConvState state() const;
  std::string description() const;

  /// @param x quint8 or qint8 with one scale; the result has the same type
  /// @param other null or the residual, of the type of x, added before the activation
  /// @param middle quantization of the convolution's own result before the residual is added; may be null
  at::Tensor codes(const at::Tensor& x, const Target& target, const at::Tensor* other = nullptr,
                   const Middle* middle = nullptr) const;
  /// The codes of an activation of the result.
  at::Tensor activated_codes(const at::Tensor& x, const ActivationStep& step, const Target& target) const;
  const ConvSpec& spec() const { return core_.spec(); }
  int64_t out_channels() const { return spec().out_channels(); }
  at::Tensor floats(const at::Tensor& x, bool clamp = true) const;

 private:
  at::Tensor through_floats(const at::Tensor& x, const Target& target, const at::Tensor* other,
                            const Middle* middle) const;
  /// Adds a missing batch dimension and the height of one-dimensional data; channels-last.
  at::Tensor prepare(const at::Tensor& x) const;
  at::Tensor with_image_dimensions(const at::Tensor& x) const;
  at::Tensor restore(const at::Tensor& result, const at::Tensor& x) const;
  ConvCall call_for(const at::Tensor& x) const;
  /// A call whose result are codes. Throws c10::Error for parameters that the type of x cannot have.
  ConvCall call_for(const at::Tensor& x, const Target& target) const;
  /// An empty result with its image dimensions.
  at::Tensor empty_result(const ConvCall& call, const Target& target, at::ScalarType type) const;
  /// Sizes of the result with its batch dimension and the height of one-dimensional data.
  std::vector<int64_t> image_sizes(const ConvCall& call) const;

  ConvSpec spec_;  // as given, for the file
  int64_t dims_;
  ConvCore core_;
};

/// TorchScript object that holds a quantized linear layer (`torch.classes.tsquant.LinearParams`).
class LinearParams : public torch::CustomClassHolder {
 public:
  using State = std::tuple<at::Tensor, at::Tensor, c10::optional<at::Tensor>, std::vector<double>>;

  /// @param weight int8 codes [out, in]
  LinearParams(const at::Tensor& weight, const at::Tensor& scales, const c10::optional<at::Tensor>& bias,
               double clamp_min, double clamp_max);
  static c10::intrusive_ptr<LinearParams> from_state(const State& state);

  State state() const;
  std::string description() const;

  /// @param step null or what is applied to the result before it is quantized
  at::Tensor codes(const at::Tensor& x, double scale, int64_t zero_point, const ActivationStep* step = nullptr) const;
  const ConvSpec& spec() const { return core_.spec(); }
  int64_t out_channels() const { return spec().out_channels(); }
  at::Tensor floats(const at::Tensor& x) const;

 private:
  ConvCall call_for(const at::Tensor& x) const;
  std::vector<int64_t> output_sizes(const at::Tensor& x) const;

  ConvCore core_;
};

}  // namespace tsquant::kernels

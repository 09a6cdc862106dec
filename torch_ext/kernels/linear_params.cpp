#include <ATen/ATen.h>

#include <sstream>

#include "kernels/code_tensor.h"
#include "kernels/conv_params.h"
#include "kernels/double_conv.h"
#include "kernels/unsigned_codes.h"

namespace tsquant::kernels {
namespace {

/// y = x W^T is a 1x1 convolution over one image whose pixels are the rows of x.
ConvSpec as_convolution(const at::Tensor& weight, const at::Tensor& scales, const c10::optional<at::Tensor>& bias,
                        double clamp_min, double clamp_max) {
  TORCH_CHECK(weight.defined() && weight.dim() == 2, "tsquant: the weight of a linear layer must have 2 dimensions");
  TORCH_CHECK(weight.size(0) > 0 && weight.size(1) > 0,
              "tsquant: the weight of a linear layer is empty: ", weight.sizes());
  ConvSpec spec;
  spec.weight = weight.unsqueeze(-1).unsqueeze(-1);
  spec.scales = scales;
  spec.bias = bias.value_or(at::Tensor());
  spec.stride = spec.dilation = {1, 1};
  spec.padding = spec.output_padding = {0, 0};
  spec.clamp_min = clamp_min;
  spec.clamp_max = clamp_max;
  return spec;
}

}  // namespace

LinearParams::LinearParams(const at::Tensor& weight, const at::Tensor& scales, const c10::optional<at::Tensor>& bias,
                           double clamp_min, double clamp_max)
    : core_(as_convolution(weight, scales, bias, clamp_min, clamp_max)) {}

c10::intrusive_ptr<LinearParams> LinearParams::from_state(const State& state) {
  const auto& clamp = std::get<3>(state);
  TORCH_CHECK(clamp.size() == 2, "tsquant: damaged LinearParams");
  return c10::make_intrusive<LinearParams>(std::get<0>(state), std::get<1>(state), std::get<2>(state), clamp[0],
                                           clamp[1]);
}

LinearParams::State LinearParams::state() const {
  const ConvSpec& spec = core_.spec();
  const auto bias = spec.bias.defined() ? c10::optional<at::Tensor>(spec.bias) : c10::nullopt;
  return {spec.weight.squeeze(-1).squeeze(-1), spec.scales, bias, {spec.clamp_min, spec.clamp_max}};
}

std::string LinearParams::description() const {
  std::ostringstream out;
  const ConvSpec& spec = core_.spec();
  out << "Linear(in=" << spec.in_channels() << ", out=" << spec.out_channels() << ", clamp=[" << spec.clamp_min << ", "
      << spec.clamp_max << "])";
  return out.str();
}

ConvCall LinearParams::call_for(const at::Tensor& x) const {
  ConvCall call;
  call.sizes = {1, x.size(-1), 1, x.numel() / x.size(-1), 0};
  call.in_scale = x.q_scale();
  call.in_zero_point = x.q_zero_point() + unsigned_shift(x.scalar_type());
  return call;
}

std::vector<int64_t> LinearParams::output_sizes(const at::Tensor& x) const {
  check_integer_codes(x, "input of a linear layer");
  TORCH_CHECK(x.dim() >= 1 && x.size(-1) == core_.spec().in_channels(), "tsquant: the linear layer expects ",
              core_.spec().in_channels(), " features, the input has shape ", x.sizes());
  auto sizes = x.sizes().vec();
  sizes.back() = core_.spec().out_channels();
  return sizes;
}

at::Tensor LinearParams::floats(const at::Tensor& x) const {
  at::Tensor result = at::empty(output_sizes(x), at::TensorOptions(at::kFloat));
  if (result.numel() == 0) return result;
  const at::Tensor source = x.contiguous();
  ConvCall call = call_for(source);
  call.floats = true;
  if (!core_.run(call, unsigned_codes(source).data, result.data_ptr())) {
    const at::Tensor rows = source.reshape({-1, source.size(-1), 1, 1});
    return convolve_in_double(core_.spec(), rows, true).reshape(result.sizes());
  }
  return result;
}

at::Tensor LinearParams::codes(const at::Tensor& x, double scale, int64_t zero_point,
                               const ActivationStep* step) const {
  const auto sizes = output_sizes(x);
  const auto type = x.scalar_type();
  check_target(scale, zero_point, type);
  at::Tensor result = at::_empty_affine_quantized(sizes, at::TensorOptions(type), scale, zero_point);
  if (result.numel() == 0) return result;
  const at::Tensor source = x.contiguous();
  ConvCall call = call_for(source);
  call.out_scale = scale;
  call.out_zero_point = zero_point + unsigned_shift(type);
  if (step != nullptr) call.activation = step->activation;
  const auto factors = step == nullptr ? std::vector<float>() : step->padded_factors();
  if (!core_.run(call, unsigned_codes(source).data, result.data_ptr(), nullptr,
                 factors.empty() ? nullptr : factors.data())) {
    const at::Tensor y = floats(x);
    return quantize_floats(step == nullptr ? y : step->apply(y, -1), scale, zero_point, type);
  }
  finish_codes(result);
  return result;
}

}  // namespace tsquant::kernels

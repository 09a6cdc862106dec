#include <torch/library.h>

#include <limits>

#include "kernels/conv_params.h"
#include "kernels/isa.h"
#include "kernels/machine_rates.h"

// The operators of the lowered form. Schemas are the contract with model files: change them only by adding overloads.
namespace tsquant::kernels {
namespace {

using Conv = c10::intrusive_ptr<ConvParams>;
using Linear = c10::intrusive_ptr<LinearParams>;

double lower(c10::optional<double> bound) { return bound.value_or(-std::numeric_limits<double>::infinity()); }
double upper(c10::optional<double> bound) { return bound.value_or(std::numeric_limits<double>::infinity()); }

Conv conv_pack(at::Tensor weight, at::Tensor scales, c10::optional<at::Tensor> bias, std::vector<int64_t> stride,
               std::vector<int64_t> padding, std::vector<int64_t> dilation, std::vector<int64_t> output_padding,
               int64_t groups, bool transposed, c10::optional<double> clamp_min, c10::optional<double> clamp_max) {
  ConvSpec spec;
  spec.weight = std::move(weight);
  spec.scales = std::move(scales);
  spec.bias = bias.value_or(at::Tensor());
  spec.stride = std::move(stride);
  spec.padding = std::move(padding);
  spec.dilation = std::move(dilation);
  spec.output_padding = std::move(output_padding);
  spec.groups = groups;
  spec.transposed = transposed;
  spec.clamp_min = lower(clamp_min);
  spec.clamp_max = upper(clamp_max);
  return c10::make_intrusive<ConvParams>(spec);
}

Linear linear_pack(at::Tensor weight, at::Tensor scales, c10::optional<at::Tensor> bias,
                   c10::optional<double> clamp_min, c10::optional<double> clamp_max) {
  return c10::make_intrusive<LinearParams>(weight, scales, bias, lower(clamp_min), upper(clamp_max));
}

at::Tensor conv(at::Tensor x, Conv params, double scale, int64_t zero_point) {
  return params->codes(x, {scale, zero_point});
}

at::Tensor conv_activated(at::Tensor x, Conv params, std::string activation, c10::optional<at::Tensor> factors,
                          double scale, int64_t zero_point) {
  return params->activated_codes(x, {activation, factors, params->out_channels()}, {scale, zero_point});
}

at::Tensor conv_add(at::Tensor x, at::Tensor other, Conv params, double scale, int64_t zero_point) {
  return params->codes(x, {scale, zero_point}, &other);
}

at::Tensor conv_quantize_add(at::Tensor x, at::Tensor other, Conv params, double middle_scale,
                             int64_t middle_zero_point, double scale, int64_t zero_point) {
  const Middle middle = {{middle_scale, middle_zero_point}, {}, {}};
  return params->codes(x, {scale, zero_point}, &other, &middle);
}

at::Tensor conv_clamp_add(at::Tensor x, at::Tensor other, Conv params, double middle_scale, int64_t middle_zero_point,
                          int64_t middle_low, int64_t middle_high, double scale, int64_t zero_point) {
  const Middle middle = {{middle_scale, middle_zero_point}, middle_low, middle_high};
  return params->codes(x, {scale, zero_point}, &other, &middle);
}

at::Tensor conv_float(at::Tensor x, Conv params) { return params->floats(x); }

at::Tensor linear(at::Tensor x, Linear params, double scale, int64_t zero_point) {
  return params->codes(x, scale, zero_point);
}

at::Tensor linear_activated(at::Tensor x, Linear params, std::string activation, c10::optional<at::Tensor> factors,
                            double scale, int64_t zero_point) {
  const ActivationStep step(activation, factors, params->out_channels());
  return params->codes(x, scale, zero_point, &step);
}

at::Tensor linear_float(at::Tensor x, Linear params) { return params->floats(x); }

}  // namespace

TORCH_LIBRARY_FRAGMENT(tsquant, m) {
  m.class_<ConvParams>("ConvParams")
      .def("__str__", [](const Conv& self) { return self->description(); })
      .def("multiply_adds", [](const Conv& self) { return self->spec().multiply_adds(); })
      .def("weight_bytes", [](const Conv& self) { return self->spec().weight.numel(); })
      .def("is_depthwise", [](const Conv& self) { return self->spec().is_depthwise(); })
      .def_pickle([](const Conv& self) { return self->state(); },
                  [](ConvState s) { return ConvParams::from_state(s); });
  m.class_<LinearParams>("LinearParams")
      .def("__str__", [](const Linear& self) { return self->description(); })
      .def("multiply_adds", [](const Linear& self) { return self->spec().multiply_adds(); })
      .def("weight_bytes", [](const Linear& self) { return self->spec().weight.numel(); })
      .def_pickle([](const Linear& self) { return self->state(); },
                  [](LinearParams::State s) { return LinearParams::from_state(s); });
  m.def(
      "conv_pack(Tensor weight, Tensor scales, Tensor? bias, int[] stride, int[] padding, int[] dilation, "
      "int[] output_padding, int groups, bool transposed, float? clamp_min, float? clamp_max) -> "
      "__torch__.torch.classes.tsquant.ConvParams",
      conv_pack);
  m.def(
      "linear_pack(Tensor weight, Tensor scales, Tensor? bias, float? clamp_min, float? clamp_max) -> "
      "__torch__.torch.classes.tsquant.LinearParams",
      linear_pack);
  m.def("conv(Tensor x, __torch__.torch.classes.tsquant.ConvParams params, float scale, int zero_point) -> Tensor",
        conv);
  m.def(
      "conv.activated(Tensor x, __torch__.torch.classes.tsquant.ConvParams params, str activation, Tensor? factors, "
      "float scale, int zero_point) -> Tensor",
      conv_activated);
  m.def(
      "conv_add(Tensor x, Tensor other, __torch__.torch.classes.tsquant.ConvParams params, float scale, "
      "int zero_point) -> Tensor",
      conv_add);
  m.def(
      "conv_add.middle(Tensor x, Tensor other, __torch__.torch.classes.tsquant.ConvParams params, "
      "float middle_scale, int middle_zero_point, float scale, int zero_point) -> Tensor",
      conv_quantize_add);
  m.def(
      "conv_add.middle_clamped(Tensor x, Tensor other, __torch__.torch.classes.tsquant.ConvParams params, "
      "float middle_scale, int middle_zero_point, int middle_low, int middle_high, float scale, int zero_point) -> "
      "Tensor",
      conv_clamp_add);
  m.def("conv_float(Tensor x, __torch__.torch.classes.tsquant.ConvParams params) -> Tensor", conv_float);
  m.def("linear(Tensor x, __torch__.torch.classes.tsquant.LinearParams params, float scale, int zero_point) -> Tensor",
        linear);
  m.def(
      "linear.activated(Tensor x, __torch__.torch.classes.tsquant.LinearParams params, str activation, "
      "Tensor? factors, float scale, int zero_point) -> Tensor",
      linear_activated);
  m.def("activations() -> str[]", []() -> std::vector<std::string> { return activation_names(); });
  m.def("linear_float(Tensor x, __torch__.torch.classes.tsquant.LinearParams params) -> Tensor", linear_float);
  m.def("isas() -> str[]", []() {
    std::vector<std::string> names;
    for (const Isa isa : available_isas()) names.emplace_back(isa_name(isa));
    return names;
  });
  m.def("multiply_rate(bool codes) -> float", [](bool codes) { return multiply_rate(codes); });
  m.def("read_rate(int bytes) -> float", [](int64_t bytes) { return read_rate(bytes); });
}

}  // namespace tsquant::kernels

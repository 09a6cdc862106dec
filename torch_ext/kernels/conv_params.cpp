#include "kernels/conv_params.h"

#include <ATen/ATen.h>

#include <sstream>

namespace tsquant::kernels {
namespace {

at::MemoryFormat channels_last(int64_t rank) {
  return rank == 5 ? at::MemoryFormat::ChannelsLast3d : at::MemoryFormat::ChannelsLast;
}

c10::optional<at::Tensor> optional(const at::Tensor& t) {
  return t.defined() ? c10::optional<at::Tensor>(t) : c10::nullopt;
}

}  // namespace

void check_codes(const at::Tensor& x, const char* what) {
  TORCH_CHECK(x.is_quantized() && x.scalar_type() == at::kQUInt8 && x.qscheme() == at::kPerTensorAffine,
              "tsquant: the ", what, " must be a quint8 tensor with one scale, it is ", x.toString());
}

ConvParams::ConvParams(const ConvSpec& spec) : spec_(spec), dims_(spec.weight.dim() - 2), core_(spec) {}

c10::intrusive_ptr<ConvParams> ConvParams::from_state(const ConvState& state) {
  ConvSpec spec;
  spec.weight = std::get<0>(state);
  spec.scales = std::get<1>(state);
  spec.bias = std::get<2>(state).value_or(at::Tensor());
  const auto& lists = std::get<3>(state);
  const auto& clamp = std::get<4>(state);
  TORCH_CHECK(lists.size() == 5 && lists[4].size() == 2 && clamp.size() == 2, "tsquant: damaged ConvParams");
  spec.stride = lists[0];
  spec.padding = lists[1];
  spec.dilation = lists[2];
  spec.output_padding = lists[3];
  spec.groups = lists[4][0];
  spec.transposed = lists[4][1] != 0;
  spec.clamp_min = clamp[0];
  spec.clamp_max = clamp[1];
  return c10::make_intrusive<ConvParams>(spec);
}

ConvState ConvParams::state() const {
  const std::vector<std::vector<int64_t>> lists = {
      spec_.stride, spec_.padding, spec_.dilation, spec_.output_padding, {spec_.groups, spec_.transposed ? 1 : 0}};
  return {spec_.weight, spec_.scales, optional(spec_.bias), lists, {spec_.clamp_min, spec_.clamp_max}};
}

std::string ConvParams::description() const {
  std::ostringstream out;
  out << (spec_.transposed ? "ConvTranspose" : "Conv") << dims_ << "d(weight=" << spec_.weight.sizes()
      << ", stride=" << spec_.stride << ", padding=" << spec_.padding << ", dilation=" << spec_.dilation
      << ", groups=" << spec_.groups << ", clamp=[" << spec_.clamp_min << ", " << spec_.clamp_max << "])";
  return out.str();
}

at::Tensor ConvParams::prepare(const at::Tensor& x) const {
  check_codes(x, "input of a convolution");
  TORCH_CHECK(x.dim() == dims_ + 1 || x.dim() == dims_ + 2, "tsquant: a convolution with ", dims_,
              " spatial dimensions got an input with ", x.dim(), " dimensions");
  at::Tensor y = x.dim() == dims_ + 1 ? x.unsqueeze(0) : x;
  TORCH_CHECK(y.size(1) == core_.spec().in_channels(), "tsquant: the convolution expects ", core_.spec().in_channels(),
              " channels, the input has ", y.size(1));
  if (dims_ == 1) y = y.unsqueeze(2);
  return y.contiguous(channels_last(y.dim()));
}

at::Tensor ConvParams::restore(const at::Tensor& result, const at::Tensor& x) const {
  at::Tensor y = dims_ == 1 ? result.squeeze(2) : result;
  return x.dim() == dims_ + 1 ? y.squeeze(0) : y;
}

ConvCall ConvParams::call_for(const at::Tensor& prepared) const {
  ConvCall call;
  call.rank = prepared.dim();
  std::copy(prepared.sizes().begin(), prepared.sizes().end(), call.sizes.begin());
  call.in_scale = prepared.q_scale();
  call.in_zero_point = prepared.q_zero_point();
  return call;
}

at::Tensor ConvParams::floats(const at::Tensor& x, bool clamp) const {
  const at::Tensor source = prepare(x);
  ConvCall call = call_for(source);
  call.floats = true;
  call.clamp = clamp;
  at::Tensor result = at::empty(core_.output_sizes(call.input()),
                                at::TensorOptions(at::kFloat).memory_format(channels_last(call.rank)));
  if (result.numel() != 0) core_.run(call, static_cast<const uint8_t*>(source.data_ptr()), result.data_ptr());
  return restore(result, x);
}

at::Tensor ConvParams::through_floats(const at::Tensor& x, const Target& target, const at::Tensor* other,
                                      const Target* middle) const {
  at::Tensor y = floats(x, other == nullptr);
  if (middle != nullptr) {
    y = at::quantize_per_tensor(y, middle->scale, middle->zero_point, at::kQUInt8).dequantize();
  }
  if (other != nullptr) y = (y + other->dequantize()).clamp(spec_.clamp_min, spec_.clamp_max);
  return at::quantize_per_tensor(y, target.scale, target.zero_point, at::kQUInt8);
}

at::Tensor ConvParams::codes(const at::Tensor& x, const Target& target, const at::Tensor* other,
                             const Target* middle) const {
  const at::Tensor source = prepare(x);
  ConvCall call = call_for(source);
  call.out_scale = target.scale;
  call.out_zero_point = target.zero_point;
  if (middle != nullptr) {
    call.middle = true;
    call.middle_scale = middle->scale;
    call.middle_zero_point = middle->zero_point;
  }
  const auto format = channels_last(call.rank);
  const auto sizes = core_.output_sizes(call.input());
  at::Tensor result =
      at::_empty_affine_quantized(sizes, at::TensorOptions(at::kQUInt8), target.scale, target.zero_point, format);
  at::Tensor residual_codes;
  Residual residual;
  if (other != nullptr) {
    check_codes(*other, "residual of a convolution");
    // A residual that has to be broadcast is added in floats.
    const bool same = x.dim() == dims_ + 2 && dims_ >= 2 && other->sizes() == result.sizes();
    if (!same) return through_floats(x, target, other, middle);
    residual_codes = other->contiguous(format);
    residual = {static_cast<const uint8_t*>(residual_codes.data_ptr()), other->q_scale(), other->q_zero_point()};
  }
  if (result.numel() != 0 && !core_.run(call, static_cast<const uint8_t*>(source.data_ptr()), result.data_ptr(),
                                        other != nullptr ? &residual : nullptr)) {
    return through_floats(x, target, other, middle);
  }
  return restore(result, x);
}

}  // namespace tsquant::kernels

#include "kernels/conv_params.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <sstream>

#include "kernels/code_tensor.h"
#include "kernels/double_conv.h"
#include "kernels/unsigned_codes.h"

namespace tsquant::kernels {
namespace {

at::MemoryFormat channels_last(int64_t rank) {
  return rank == 5 ? at::MemoryFormat::ChannelsLast3d : at::MemoryFormat::ChannelsLast;
}

c10::optional<at::Tensor> optional(const at::Tensor& t) {
  return t.defined() ? c10::optional<at::Tensor>(t) : c10::nullopt;
}

}  // namespace

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

at::Tensor ConvParams::with_image_dimensions(const at::Tensor& x) const {
  at::Tensor y = x.dim() == dims_ + 1 ? x.unsqueeze(0) : x;
  if (dims_ == 1) y = y.unsqueeze(2);
  return y.contiguous(channels_last(y.dim()));
}

at::Tensor ConvParams::prepare(const at::Tensor& x) const {
  check_integer_codes(x, "input of a convolution");
  TORCH_CHECK(x.dim() == dims_ + 1 || x.dim() == dims_ + 2, "tsquant: a convolution with ", dims_,
              " spatial dimensions got an input with ", x.dim(), " dimensions");
  TORCH_CHECK(x.size(x.dim() - dims_ - 1) == core_.spec().in_channels(), "tsquant: the convolution expects ",
              core_.spec().in_channels(), " channels, the input has ", x.size(x.dim() - dims_ - 1));
  return with_image_dimensions(x);
}

at::Tensor ConvParams::restore(const at::Tensor& result, const at::Tensor& x) const {
  at::Tensor y = dims_ == 1 ? result.squeeze(2) : result;
  return x.dim() == dims_ + 1 ? y.squeeze(0) : y;
}

ConvCall ConvParams::call_for(const at::Tensor& x) const {
  ConvCall call;
  call.rank = dims_ + 2;
  call.sizes[0] = 1;
  std::copy(x.sizes().begin(), x.sizes().end(), call.sizes.begin() + (x.dim() == dims_ + 1 ? 1 : 0));
  call.in_scale = x.q_scale();
  call.in_zero_point = x.q_zero_point() + unsigned_shift(x.scalar_type());
  return call;
}

std::vector<int64_t> ConvParams::image_sizes(const ConvCall& call) const {
  auto sizes = core_.output_sizes(call.input());
  if (dims_ == 1) sizes.insert(sizes.begin() + 2, 1);
  return sizes;
}

at::Tensor ConvParams::floats(const at::Tensor& x, bool clamp) const {
  const at::Tensor source = prepare(x);
  ConvCall call = call_for(x);
  call.floats = true;
  call.clamp = clamp;
  const auto sizes = image_sizes(call);
  at::Tensor result =
      at::empty(sizes, at::TensorOptions(at::kFloat).memory_format(channels_last(static_cast<int64_t>(sizes.size()))));
  if (result.numel() != 0 && !core_.run(call, unsigned_codes(source).data, result.data_ptr())) {
    const at::Tensor y = convolve_in_double(core_.spec(), x.dim() == dims_ + 1 ? x.unsqueeze(0) : x, clamp);
    return x.dim() == dims_ + 1 ? y.squeeze(0) : y;
  }
  return restore(result, x);
}

at::Tensor ConvParams::through_floats(const at::Tensor& x, const Target& target, const at::Tensor* other,
                                      const Middle* middle) const {
  at::Tensor y = floats(x, other == nullptr);
  const auto type = x.scalar_type();
  if (middle != nullptr) {
    const auto [scale, zero_point] = middle->target;
    const at::Tensor codes =
        quantize_floats(y, scale, zero_point, type)
            .int_repr()
            .clamp(middle->low.value_or(lowest_code(type)), middle->high.value_or(highest_code(type)));
    y = at::_make_per_tensor_quantized_tensor(codes, scale, zero_point).dequantize();
  }
  if (other != nullptr) y = (y + other->dequantize()).clamp(spec_.clamp_min, spec_.clamp_max);
  return quantize_floats(y, target.scale, target.zero_point, type);
}

at::Tensor ConvParams::empty_result(const ConvCall& call, const Target& target, at::ScalarType type) const {
  const auto sizes = image_sizes(call);
  return at::_empty_affine_quantized(sizes, at::TensorOptions(type), target.scale, target.zero_point,
                                     channels_last(static_cast<int64_t>(sizes.size())));
}

ConvCall ConvParams::call_for(const at::Tensor& x, const Target& target) const {
  check_target(target.scale, target.zero_point, x.scalar_type());
  ConvCall call = call_for(x);
  call.out_scale = target.scale;
  call.out_zero_point = target.zero_point + unsigned_shift(x.scalar_type());
  return call;
}

at::Tensor ConvParams::activated_codes(const at::Tensor& x, const ActivationStep& step, const Target& target) const {
  const at::Tensor source = prepare(x);
  const auto type = x.scalar_type();
  ConvCall call = call_for(x, target);
  call.activation = step.activation;
  at::Tensor result = empty_result(call, target, type);
  const auto factors = step.padded_factors();
  if (result.numel() != 0 && !core_.run(call, unsigned_codes(source).data, result.data_ptr(), nullptr,
                                        factors.empty() ? nullptr : factors.data())) {
    const at::Tensor y = floats(x);
    return quantize_floats(step.apply(y, y.dim() - dims_ - 1), target.scale, target.zero_point, type);
  }
  finish_codes(result);
  return restore(result, x);
}

at::Tensor ConvParams::codes(const at::Tensor& x, const Target& target, const at::Tensor* other,
                             const Middle* middle) const {
  const at::Tensor source = prepare(x);
  const auto type = x.scalar_type();
  ConvCall call = call_for(x, target);
  if (middle != nullptr) {
    const Target& own = middle->target;
    check_target(own.scale, own.zero_point, type);
    const int64_t lowest = lowest_code(type), highest = highest_code(type);
    const int64_t low = middle->low.value_or(lowest), high = middle->high.value_or(highest);
    TORCH_CHECK(lowest <= low && low <= high && high <= highest,
                "tsquant: the codes of a convolution's own result are ", "bounded by ", low, " and ", high,
                "; codes of ", type, " lie between ", lowest, " and ", highest);
    call.middle = true;
    call.middle_scale = own.scale;
    call.middle_zero_point = own.zero_point + unsigned_shift(type);
    call.middle_low = low + unsigned_shift(type);
    call.middle_high = high + unsigned_shift(type);
  }
  at::Tensor result = empty_result(call, target, type);
  UnsignedCodes residual_codes;
  Residual residual;
  if (other != nullptr) {
    check_integer_codes(*other, "residual of a convolution");
    TORCH_CHECK(other->scalar_type() == type, "tsquant: the residual of a convolution must have the type of its input");
    // A residual that has to be broadcast is added in floats.
    if (other->sizes() != restore(result, x).sizes()) return through_floats(x, target, other, middle);
    residual_codes = unsigned_codes(with_image_dimensions(*other));
    residual = {residual_codes.data, residual_codes.scale, residual_codes.zero_point};
  }
  if (result.numel() != 0 &&
      !core_.run(call, unsigned_codes(source).data, result.data_ptr(), other != nullptr ? &residual : nullptr)) {
    return through_floats(x, target, other, middle);
  }
  finish_codes(result);
  return restore(result, x);
}

}  // namespace tsquant::kernels

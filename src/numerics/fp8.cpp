#include "numerics/fp8.h"

#include <ATen/ATen.h>
#include <ATen/core/dispatch/Dispatcher.h>

#include <limits>

namespace tsquant {

namespace {

at::Tensor call(const char* name, const at::Tensor& x, const QParams& q) {
  const auto op = c10::Dispatcher::singleton().findSchemaOrThrow(name, "");
  torch::jit::Stack stack{x, q.scale, q.per_channel ? c10::IValue(q.axis) : c10::IValue(),
                          format_name(*q.destination_type)};
  op.callBoxed(&stack);
  return stack.at(0).toTensor();
}

}  // namespace

std::string format_name(FP8Type type) { return type == FP8Type::kE4M3 ? "f8e4m3" : "f8e5m2"; }

QParams fp8_qparams(const Range& range, const QuantizationSpec& spec) {
  const double highest = *spec.destination_type == FP8Type::kE4M3 ? 448 : 57344;
  const auto limit = at::maximum(range.max, range.min.abs() + std::numeric_limits<float>::epsilon()).to(at::kFloat);
  QParams result;
  result.destination_type = spec.destination_type;
  result.per_channel = spec.per_channel;
  result.axis = spec.ch_axis;
  result.dtype = c10::kByte;
  result.quant_min = 0;
  result.quant_max = 255;
  // limit / highest underflows only for ranges below the smallest normal float times 57344.
  result.scale = (limit / (spec.per_channel ? highest : 0.5 * highest))
                     .clamp_min(std::numeric_limits<float>::min())
                     .reshape({-1})
                     .contiguous();
  result.zero_point = at::zeros(result.scale.sizes(), at::kLong);
  result.range = range;
  return result;
}

at::Tensor quantize_to_fp8(const at::Tensor& x, const QParams& q) { return call("tsquant::quantize_fp8", x, q); }

at::Tensor dequantize_from_fp8(const at::Tensor& codes, const QParams& q) {
  return call("tsquant::dequantize_fp8", codes, q);
}

}  // namespace tsquant

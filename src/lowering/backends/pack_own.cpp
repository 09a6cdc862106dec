#include <ATen/ATen.h>

#include "lowering/backends/weighted_op.h"

namespace tsquant {

namespace {

c10::IValue optional_tensor(const at::Tensor& t) { return t.defined() ? c10::IValue(t) : c10::IValue(); }

c10::IValue bound(const c10::optional<double>& value) { return value ? c10::IValue(*value) : c10::IValue(); }

at::Tensor scales_of(const at::Tensor& weight) {
  if (weight.qscheme() == at::kPerTensorAffine) return at::full({1}, weight.q_scale(), at::kFloat);
  return weight.q_per_channel_scales().to(at::kFloat);
}

}  // namespace

c10::optional<PackedOp> pack_own(const WeightedOp& op, const FusedOutput& output) {
  PackedOp packed;
  packed.clamps = true;
  const at::Tensor codes = op.weight.int_repr();
  const c10::IValue scales = scales_of(op.weight), bias = optional_tensor(op.bias);
  if (op.linear) {
    packed.params = call_operator("tsquant::linear_pack", {codes, scales, bias, bound(output.low), bound(output.high)});
    packed.codes_kernel = "tsquant::linear";
    packed.float_kernel = "tsquant::linear_float";
    return packed;
  }
  packed.params =
      call_operator("tsquant::conv_pack", {codes, scales, bias, op.stride, op.padding, op.dilation, op.output_padding,
                                           op.groups, op.transposed, bound(output.low), bound(output.high)});
  packed.codes_kernel = "tsquant::conv";
  packed.float_kernel = "tsquant::conv_float";
  packed.add_kernel = "tsquant::conv_add";
  return packed;
}

}  // namespace tsquant

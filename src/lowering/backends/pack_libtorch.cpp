#include <ATen/ATen.h>

#include "lowering/backends/weighted_op.h"
#include "tsquant/backend.h"

namespace tsquant {

namespace {

c10::IValue optional_tensor(const at::Tensor& t) { return t.defined() ? c10::IValue(t) : c10::IValue(); }

std::string first_line(const std::string& text) { return text.substr(0, text.find('\n')); }

/// Engines refuse some geometries only when they run: try the smallest input.
void probe(const WeightedOp& op, const PackedOp& packed, const std::string& overload) {
  std::vector<int64_t> sizes = {1, op.in_channels()};
  for (int64_t i = 0; i < op.spatial_dims(); ++i) {
    const auto at = static_cast<size_t>(i);
    sizes.push_back(op.dilation[at] * (op.weight.size(i + 2) - 1) + 1 + op.stride[at] + op.padding[at]);
  }
  const at::Tensor x = at::quantize_per_tensor(at::zeros(sizes), 0.1, 128, at::kQUInt8);
  call_operator(packed.codes_kernel, {x, packed.params, 0.1, 128}, overload);
}

}  // namespace

c10::optional<PackedOp> pack_libtorch(const Lowering& lowering, const WeightedOp& op, const FusedOutput& output,
                                      std::string& reason) {
  const EngineGuard guard(lowering.engine());
  PackedOp packed;
  packed.clamps = output.is_relu() && !op.transposed;
  const at::Tensor weight = op.weight.contiguous();
  const std::string relu = packed.clamps ? "_relu" : "";
  const std::string dims = std::to_string(op.spatial_dims()) + "d";
  std::string overload;
  try {
    if (op.linear) {
      packed.codes_kernel = "quantized::linear" + relu;
      packed.params = call_operator("quantized::linear_prepack", {weight, optional_tensor(op.bias)});
    } else if (op.transposed) {
      packed.codes_kernel = "quantized::conv_transpose" + dims;
      packed.params = call_operator(
          packed.codes_kernel + "_prepack",
          {weight, optional_tensor(op.bias), op.stride, op.padding, op.output_padding, op.dilation, op.groups});
    } else {
      packed.codes_kernel = "quantized::conv" + dims + relu;
      overload = op.spatial_dims() == 1 ? "" : "new";
      packed.params = call_operator("quantized::conv" + dims + "_prepack",
                                    {weight, optional_tensor(op.bias), op.stride, op.padding, op.dilation, op.groups});
    }
    probe(op, packed, overload);
  } catch (const c10::Error& e) {
    reason = lowering.engine() + " refuses it: " + first_line(e.what_without_backtrace());
    return c10::nullopt;
  }
  return packed;
}

}  // namespace tsquant

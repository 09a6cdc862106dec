#include <ATen/ATen.h>

#include "lowering/backends/weighted_op.h"
#include "tsquant/backend.h"

namespace tsquant {

namespace {

c10::IValue optional_tensor(const at::Tensor& t) { return t.defined() ? c10::IValue(t) : c10::IValue(); }

std::string first_line(const std::string& text) { return text.substr(0, text.find('\n')); }

/// LibTorch's packing operator and its arguments.
struct PackCall {
  std::string name;
  std::vector<c10::IValue> arguments;
};

PackCall pack_call(const WeightedOp& op) {
  const c10::IValue weight = op.weight.contiguous(), bias = optional_tensor(op.bias);
  const std::string dims = std::to_string(op.spatial_dims()) + "d";
  if (op.linear) return {"quantized::linear_prepack", {weight, bias}};
  if (op.transposed) {
    return {"quantized::conv_transpose" + dims + "_prepack",
            {weight, bias, op.stride, op.padding, op.output_padding, op.dilation, op.groups}};
  }
  return {"quantized::conv" + dims + "_prepack", {weight, bias, op.stride, op.padding, op.dilation, op.groups}};
}

/// Engines refuse some geometries only when they run: try the smallest input. The packed object must not be used
/// afterwards, because oneDNN's remembers what the first input was like.
void probe(const WeightedOp& op, const std::string& kernel, const c10::IValue& packed, const std::string& overload) {
  std::vector<int64_t> sizes = {1, op.in_channels()};
  for (int64_t i = 0; i < op.spatial_dims(); ++i) {
    const auto at = static_cast<size_t>(i);
    sizes.push_back(op.dilation[at] * (op.weight.size(i + 2) - 1) + 1 + op.stride[at] + op.padding[at]);
  }
  const at::Tensor x = at::quantize_per_tensor(at::zeros(sizes), 0.1, 128, at::kQUInt8);
  call_operator(kernel, {x, packed, 0.1, 128}, overload);
}

}  // namespace

c10::optional<PackedOp> pack_libtorch(const Lowering& lowering, const WeightedOp& op, const FusedOutput& output,
                                      std::string& reason) {
  const EngineGuard guard(lowering.engine());
  PackedOp packed;
  packed.clamps = output.is_relu() && !op.transposed;
  const std::string relu = packed.clamps ? "_relu" : "", dims = std::to_string(op.spatial_dims()) + "d";
  packed.codes_kernel = op.linear       ? "quantized::linear" + relu
                        : op.transposed ? "quantized::conv_transpose" + dims
                                        : "quantized::conv" + dims + relu;
  const std::string overload = op.linear || op.transposed || op.spatial_dims() == 1 ? "" : "new";
  const PackCall call = pack_call(op);
  try {
    probe(op, packed.codes_kernel, call_operator(call.name, call.arguments), overload);
    packed.params = call_operator(call.name, call.arguments);
  } catch (const std::exception& e) {
    const auto* error = dynamic_cast<const c10::Error*>(&e);
    const std::string message = error != nullptr ? error->what_without_backtrace() : e.what();
    reason = lowering.engine() + " refuses it: " + first_line(message);
    return c10::nullopt;
  }
  return packed;
}

}  // namespace tsquant

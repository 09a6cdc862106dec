#include <ATen/ATen.h>

#include "graph/params.h"
#include "graph/walk.h"
#include "lowering/backends/lowering_state.h"

namespace tsquant {

using torch::jit::Node;
using torch::jit::Value;

namespace {

std::string base_kind(const Node* node) {
  std::string kind = node->kind().toQualString();
  if (kind.back() == '_') kind.pop_back();
  return kind;
}

/// quantize(f(dequantize(%q))) -> quantized::f(%q, ..., scale, zero_point)
bool lower_with_output_scale(Lowering& lowering, Node* node, Value* codes, const FusedOutput& output) {
  const std::string kind = base_kind(node);
  const std::string kernel = "quantized::" + kind.substr(std::string("aten::").size());
  if (!output.quantized() || !output.absorbed.empty()) return false;
  // QNNPACK's sigmoid writes only this scale.
  const CodeParams unit = {1.0 / 256, 0};
  if (kind == "aten::sigmoid" && lowering.engine() == "qnnpack" && !(output.params == unit)) return false;
  std::vector<Value*> inputs = {codes};
  Value* scale = lowering.constant(node, output.params.scale);
  Value* zero_point = lowering.constant(node, output.params.zero_point);
  if (kind == "aten::hardswish" || kind == "aten::sigmoid") {
    inputs.insert(inputs.end(), {scale, zero_point});
  } else if (kind == "aten::leaky_relu") {
    inputs.insert(inputs.end(), {node->input(1), lowering.constant(node, false), scale, zero_point});
  } else if (kind == "aten::elu") {
    inputs.insert(inputs.end(), {scale, zero_point, node->input(1), node->input(2), node->input(3)});
  } else {
    return false;
  }
  Value* result = lowering.insert(node, kernel, inputs, node);
  lowering.record(node, kernel);
  replace_output(lowering, output, result, kernel);
  lowering.destroy(node);
  return true;
}

/// LibTorch's quantized hardsigmoid and tanh write fixed parameters. A quantizer with a finer scale would lose by it.
bool lower_with_fixed_scale(Lowering& lowering, Node* node, Value* codes, const FusedOutput& output) {
  const std::string kind = base_kind(node);
  CodeParams fixed;
  if (kind == "aten::hardsigmoid") {
    fixed = {1.0 / 256, 0};
  } else if (kind == "aten::tanh") {
    fixed = {2.0 / 256, 128};
  } else {
    return false;
  }
  if (!output.quantized() || !output.absorbed.empty() || output.params.scale < fixed.scale ||
      kind != node->kind().toQualString())
    return false;
  sink_below(lowering, node, codes, {node->output()}, fixed);
  return true;
}

/// relu, relu6, hardtanh and clamp keep the scale and are exact on codes.
bool lower_clamp(Lowering& lowering, Node* node, Value* codes) {
  c10::optional<double> low, high;
  if (!clamp_bounds(lowering.model(), node, low, high)) return false;
  const CodeParams params = lowering.params_of(codes);
  Value* result = insert_clamp(lowering, node, codes, params, low, high);
  lowering.set_codes(result, params);
  lowering.record(node, "quantized::clamp");
  node->output()->replaceAllUsesWith(lowering.insert(node, "aten::dequantize", {result}, nullptr));
  lowering.destroy(node);
  return true;
}

}  // namespace

/// LibTorch's engines; our own kernels look every element-wise function up in a table (lower_quantizers).
void lower_unary(Lowering& lowering) {
  if (lowering.own_kernels()) return;
  static const std::vector<std::string> kinds = {
      "aten::relu",      "aten::relu_",      "aten::relu6",       "aten::relu6_",    "aten::hardtanh",
      "aten::hardtanh_", "aten::clamp",      "aten::clamp_",      "aten::clamp_min", "aten::clamp_max",
      "aten::hardswish", "aten::hardswish_", "aten::sigmoid",     "aten::sigmoid_",  "aten::hardsigmoid",
      "aten::tanh",      "aten::leaky_relu", "aten::leaky_relu_", "aten::elu",       "aten::elu_"};
  for (Node* node : nodes_of_kind(lowering.graph().block(), kinds)) {
    Value* codes = lowering.codes_of(node->input(0));
    if (codes == nullptr || lower_clamp(lowering, node, codes)) continue;
    const FusedOutput output = follow_output(lowering, node->output());
    if (lower_with_output_scale(lowering, node, codes, output)) continue;
    if (lower_with_fixed_scale(lowering, node, codes, output)) continue;
    lowering.refuse(node, output.quantized() ? "the engine has no integer kernel with the scale of its result"
                                             : "its result is used in float");
  }
}

}  // namespace tsquant

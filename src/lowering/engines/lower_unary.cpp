#include "graph/node_lists.h"
#include "lowering/engines/lowering_context.h"

namespace tsquant {

using torch::jit::Node;
using torch::jit::Value;

namespace {

/// relu, relu6, hardtanh and clamp keep the scale and are exact on codes.
bool lower_clamp(LoweringContext& context, Node* node, Value* codes, c10::optional<double> low,
                 c10::optional<double> high) {
  if (!context.may_lower(node, node->output())) return false;
  const CodeParams params = context.params_of(codes);
  Value* result = insert_clamp(context, node, codes, params, low, high);
  replace_by_codes(context, node, result, params, context.engine().find("clamp")->kernel);
  return true;
}

/// A kernel that always writes the same parameters. A quantizer with a finer scale would lose by it.
bool lower_with_fixed_scale(LoweringContext& context, Node* node, Value* codes, const FusedOutput& output,
                            const EngineRow& row) {
  const std::string kind = node->kind().toQualString();
  if (!output.absorbed.empty() || output.params.scale < row.fixed.scale || kind != row.kernel) {
    context.refuse(node, "the engine has no integer kernel with the scale of its result");
    return false;
  }
  sink_below(context, node, codes, {node->output()}, row.fixed);
  return true;
}

bool lower_unary_node(LoweringContext& context, Node* node) {
  Value* codes = context.codes_of(node->input(0));
  if (codes == nullptr) return false;
  c10::optional<double> low, high;
  if (clamp_bounds(context.model(), node, low, high)) return lower_clamp(context, node, codes, low, high);
  const FusedOutput output = follow_output(context, node->output());
  const EngineRow* row = row_for(context, node, {codes}, output);
  if (row == nullptr) return false;
  if (row->result == ResultScale::kFixed) return lower_with_fixed_scale(context, node, codes, output, *row);
  apply_row(context, *row, node, {codes}, output);
  return true;
}

}  // namespace

bool lower_unary(LoweringContext& context) {
  // An engine with tables computes every element-wise function so (lower_quantizers).
  if (context.engine().find("elementwise") != nullptr) return false;
  static const std::vector<std::string> kinds = {
      "aten::relu",      "aten::relu_",      "aten::relu6",       "aten::relu6_",    "aten::hardtanh",
      "aten::hardtanh_", "aten::clamp",      "aten::clamp_",      "aten::clamp_min", "aten::clamp_max",
      "aten::hardswish", "aten::hardswish_", "aten::sigmoid",     "aten::sigmoid_",  "aten::hardsigmoid",
      "aten::tanh",      "aten::leaky_relu", "aten::leaky_relu_", "aten::elu",       "aten::elu_"};
  bool changed = false;
  for (Node* node : nodes_of_kind(context.graph().block(), kinds)) changed |= lower_unary_node(context, node);
  return changed;
}

}  // namespace tsquant

#include "graph/node_lists.h"
#include "graph/params.h"
#include "lowering/engines/lowering_context.h"

namespace tsquant {

using torch::jit::Node;
using torch::jit::Value;

namespace {

/// Kernels that keep the scale of their input round with that scale first. Followed by a quantizer with a finer scale
/// that would lose precision; with an equal or coarser one it costs at most one quantum.
bool lower_keeping_scale(LoweringContext& context, Node* node, Value* codes, const FusedOutput& output) {
  const CodeParams params = context.params_of(codes);
  if (!output.quantized() || !output.absorbed.empty()) {
    context.refuse(node, "its result is used in float");
    return false;
  }
  if (output.params.scale < params.scale) {
    context.refuse(node, "the integer kernel keeps the scale of its input, which is coarser than the result's");
    return false;
  }
  if (row_for(context, node, {codes}, output) == nullptr) return false;
  sink_below(context, node, codes, {node->output()}, params);
  return true;
}

/// A mean with a dtype of its own computes in that type.
bool has_own_type(const Model& model, const Node* node) {
  if (op_of(node) != "mean") return false;
  if (node->inputs().size() != 4) return true;  // the mean of everything
  const auto dtype = constant_of(model, node->input(3));
  return !dtype || !dtype->isNone();
}

bool lower_pooling_node(LoweringContext& context, Node* node) {
  Value* codes = context.codes_of(node->input(0));
  if (codes == nullptr || has_own_type(context.model(), node)) return false;
  FusedOutput output = follow_output(context, node->output());
  if (!output.quantized()) {  // activations stay behind a float result
    output = FusedOutput();
    output.last = node->output();
  }
  const EngineRow* row = context.engine().find(op_of(node));
  if (row != nullptr && row->result == ResultScale::kInput) return lower_keeping_scale(context, node, codes, output);
  row = row_for(context, node, {codes}, output);
  if (row != nullptr) apply_row(context, *row, node, {codes}, output);
  return row != nullptr;
}

}  // namespace

bool lower_pooling(LoweringContext& context) {
  bool changed = false;
  for (Node* node : nodes_of_kind(context.graph().block(), {"aten::avg_pool1d", "aten::avg_pool2d", "aten::avg_pool3d",
                                                            "aten::adaptive_avg_pool1d", "aten::adaptive_avg_pool2d",
                                                            "aten::adaptive_avg_pool3d", "aten::mean"})) {
    changed |= lower_pooling_node(context, node);
  }
  return changed;
}

}  // namespace tsquant

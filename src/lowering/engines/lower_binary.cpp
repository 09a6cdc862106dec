#include "graph/node_lists.h"
#include "graph/params.h"
#include "lowering/engines/lowering_context.h"

namespace tsquant {

using torch::jit::Node;
using torch::jit::Value;

namespace {

bool has_two_tensors(const Node* node) {
  return node->inputs().size() >= 2 && node->input(0)->type()->isSubtypeOf(*c10::TensorType::get()) &&
         node->input(1)->type()->isSubtypeOf(*c10::TensorType::get());
}

bool lower_binary_node(LoweringContext& context, Node* node) {
  Value *a = context.codes_of(node->input(0)), *b = context.codes_of(node->input(1));
  if (a == nullptr && b == nullptr) return false;
  if (a == nullptr || b == nullptr) {
    context.refuse(node, "only one of its operands is quantized");
    return false;
  }
  const FusedOutput output = follow_output(context, node->output());
  const EngineRow* row = row_for(context, node, {a, b}, output);
  if (row != nullptr) apply_row(context, *row, node, {a, b}, output);
  return row != nullptr;
}

}  // namespace

bool is_tensor_sum(const LoweringContext& context, const Node* node) {
  if (op_of(node) != "add" || !has_two_tensors(node)) return false;
  if (node->inputs().size() < 3) return true;
  const auto alpha = constant_of(context.model(), node->input(2));
  return alpha && alpha->isScalar() && alpha->toScalar().toDouble() == 1;
}

bool lower_additions_and_products(LoweringContext& context) {
  bool changed = false;
  for (Node* node : nodes_of_kind(context.graph().block(), {"aten::add", "aten::add_", "aten::mul", "aten::mul_"})) {
    const bool product = op_of(node) == "mul" && has_two_tensors(node);
    if (product || is_tensor_sum(context, node)) changed |= lower_binary_node(context, node);
  }
  return changed;
}

}  // namespace tsquant

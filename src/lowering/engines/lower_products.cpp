#include "graph/node_lists.h"
#include "lowering/engines/lowering_context.h"

namespace tsquant {

using torch::jit::Node;
using torch::jit::Value;

namespace {

bool lower_product(LoweringContext& context, Node* node) {
  Value *a = context.codes_of(node->input(0)), *b = context.codes_of(node->input(1));
  if (a == nullptr && b == nullptr) return false;
  if (a == nullptr || b == nullptr) {
    context.refuse(node, "only one of its operands is quantized");
    return false;
  }
  FusedOutput output = follow_output(context, node->output());
  if (!output.quantized()) {  // activations stay behind a float result
    output = FusedOutput();
    output.last = node->output();
  }
  const EngineRow* row = row_for(context, node, {a, b}, output);
  if (row == nullptr) return false;
  if (context.rank_of(a) < row->min_rank || context.rank_of(b) < row->min_rank) {
    context.refuse(node, "the engine's kernel multiplies matrices");
    return false;
  }
  const auto number = context.original_of(a);
  const double products = static_cast<double>(context.reference().sizes[*number]->back());
  const Work work = {products, false, false,
                     products * 255 * 255 * context.params_of(a).scale * context.params_of(b).scale};
  apply_row(context, *row, node, {a, b}, output, work);
  return true;
}

}  // namespace

// matmul(dequantize(%a), dequantize(%b))   ->   tsquant::matmul(%a, %b, scale, zero_point)
bool lower_products(LoweringContext& context) {
  bool changed = false;
  for (Node* node : nodes_of_kind(context.graph().block(), {"aten::matmul", "aten::bmm", "aten::mm"})) {
    changed |= lower_product(context, node);
  }
  return changed;
}

}  // namespace tsquant

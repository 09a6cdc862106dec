#include "graph/node_lists.h"
#include "lowering/engines/lowering_context.h"

namespace tsquant {

using torch::jit::Node;
using torch::jit::Value;

namespace {

/// All elements of the list that aten::cat reads as codes; empty when one of them is not quantized.
std::vector<Value*> part_codes(const LoweringContext& context, const Node* node) {
  const Node* list = node->input(0)->node();
  std::vector<Value*> codes;
  if (list->kind() != c10::prim::ListConstruct) return codes;
  for (const Value* element : list->inputs()) {
    Value* code = context.codes_of(element);
    if (code == nullptr) return {};
    codes.push_back(code);
  }
  return codes;
}

}  // namespace

// aten::cat([dequantize(%a), dequantize(%b)], dim), one scale   ->   dequantize(cat([%a, %b], dim))
bool sink_below_cat(LoweringContext& context, Node* node) {
  const auto codes = part_codes(context, node);
  const EngineRow* row = context.engine().find("cat");
  if (codes.empty() || row == nullptr || !context.may_lower(node, node->output())) return false;
  FusedOutput output;
  output.last = node->output();
  output.params = context.params_of(codes[0]);
  const bool same =
      std::all_of(codes.begin(), codes.end(), [&](Value* c) { return context.params_of(c) == output.params; });
  if (!same) return false;
  Value* result = context.insert(node, row->kernel, row->arguments(context, node, codes, output), node);
  replace_by_codes(context, node, result, output.params, row->kernel);
  return true;
}

// quantize(aten::cat([dequantize(%a), dequantize(%b)], dim))   ->   cat([%a, %b], dim, scale, zero_point)
bool lower_concatenations(LoweringContext& context) {
  bool changed = false;
  for (Node* node : nodes_of_kind(context.graph().block(), {"aten::cat"})) {
    const auto codes = part_codes(context, node);
    if (codes.empty()) continue;
    const FusedOutput output = follow_output(context, node->output());
    if (!output.quantized()) {
      context.refuse(node, "its parts have different scales and its result is used in float");
      continue;
    }
    const EngineRow* row = row_for(context, node, codes, output);
    if (row == nullptr) continue;
    apply_row(context, *row, node, codes, output);
    changed = true;
  }
  return changed;
}

}  // namespace tsquant

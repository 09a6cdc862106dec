#include "graph/walk.h"
#include "lowering/backends/lowering_state.h"

namespace tsquant {

using torch::jit::Node;
using torch::jit::Value;

namespace {

/// All elements of the list that aten::cat reads as codes; empty when one of them is not quantized.
std::vector<Value*> part_codes(const Lowering& lowering, const Node* node) {
  const Node* list = node->input(0)->node();
  std::vector<Value*> codes;
  if (list->kind() != c10::prim::ListConstruct) return codes;
  for (const Value* element : list->inputs()) {
    Value* code = lowering.codes_of(element);
    if (code == nullptr) return {};
    codes.push_back(code);
  }
  return codes;
}

Value* insert_cat(Lowering& lowering, Node* node, const std::vector<Value*>& codes, const CodeParams& params) {
  Node* parts = lowering.graph().createList(c10::TensorType::get(), codes);
  parts->insertBefore(node);
  Value* result = lowering.insert(node, "quantized::cat",
                                  {parts->output(), node->input(1), lowering.constant(node, params.scale),
                                   lowering.constant(node, params.zero_point)},
                                  node);
  lowering.record(node, "quantized::cat");
  lowering.set_codes(result, params);
  return result;
}

}  // namespace

// aten::cat([dequantize(%a), dequantize(%b)], dim), one scale   ->   dequantize(quantized::cat([%a, %b], dim))
bool sink_below_cat(Lowering& lowering, Node* node) {
  const auto codes = part_codes(lowering, node);
  if (codes.empty()) return false;
  const CodeParams params = lowering.params_of(codes[0]);
  const bool same = std::all_of(codes.begin(), codes.end(), [&](Value* c) { return lowering.params_of(c) == params; });
  if (!same) return false;
  Value* result = insert_cat(lowering, node, codes, params);
  node->output()->replaceAllUsesWith(lowering.insert(node, "aten::dequantize", {result}, nullptr));
  lowering.destroy(node);
  return true;
}

// quantize(aten::cat([dequantize(%a), dequantize(%b)], dim))   ->   quantized::cat([%a, %b], dim, scale, zero_point)
void lower_concatenations(Lowering& lowering) {
  for (Node* node : nodes_of_kind(lowering.graph().block(), {"aten::cat"})) {
    const auto codes = part_codes(lowering, node);
    if (codes.empty()) continue;
    const FusedOutput output = follow_output(lowering, node->output());
    if (!output.quantized() || !output.absorbed.empty()) {
      lowering.refuse(node, "its parts have different scales and its result is used in float");
      continue;
    }
    replace_output(lowering, output, insert_cat(lowering, node, codes, output.params), "quantized::cat");
    lowering.destroy(node);
  }
}

}  // namespace tsquant

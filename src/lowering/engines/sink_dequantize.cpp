#include <unordered_set>

#include "graph/mutation.h"
#include "graph/node_lists.h"
#include "graph/params.h"
#include "lowering/engines/lowering_context.h"

namespace tsquant {

using torch::jit::Node;
using torch::jit::Value;

namespace {

/// Operators whose result holds only values of their first input, so that they give the same on codes.
bool moves_values(const Model& model, const Node* node) {
  static const std::unordered_set<std::string> names = {"aten::view",
                                                        "aten::reshape",
                                                        "aten::flatten",
                                                        "aten::permute",
                                                        "aten::transpose",
                                                        "aten::t",
                                                        "aten::squeeze",
                                                        "aten::unsqueeze",
                                                        "aten::slice",
                                                        "aten::select",
                                                        "aten::contiguous",
                                                        "aten::unflatten",
                                                        "aten::upsample_nearest2d",
                                                        "aten::chunk",
                                                        "aten::split",
                                                        "aten::split_with_sizes"};
  const std::string kind = node->kind().toQualString();
  if (names.count(kind)) return true;
  if (kind == "aten::__interpolate") {
    const auto mode = constant_of(model, node->input(3));
    return mode && mode->isString() && mode->toStringRef() == "nearest";
  }
  if (kind == "aten::constant_pad_nd" || kind == "aten::pad") {
    const size_t value_input = kind == "aten::pad" ? 3 : 2;
    if (kind == "aten::pad") {
      const auto mode = constant_of(model, node->input(2));
      if (!mode || !mode->isString() || mode->toStringRef() != "constant") return false;
    }
    if (value_input >= node->inputs().size()) return true;
    const auto value = constant_of(model, node->input(value_input));
    return value && (value->isNone() || (value->isScalar() && value->toScalar().toDouble() == 0));
  }
  return false;
}

/// The tensors that a node hands on: its result, or the elements of the list that is unpacked right away.
/// False when the list is used in another way.
bool results_of(Node* node, std::vector<Value*>& results) {
  if (node->outputs().size() != 1) return false;
  if (node->output()->type()->kind() != c10::TypeKind::ListType) {
    results.push_back(node->output());
    return true;
  }
  for (const auto& use : node->output()->uses()) {
    if (use.user->kind() != c10::prim::ListUnpack) return false;
    for (Value* output : use.user->outputs()) results.push_back(output);
  }
  return true;
}

bool is_max_pool(const Node* node) {
  const std::string kind = node->kind().toQualString();
  return kind == "aten::max_pool1d" || kind == "aten::max_pool2d" || kind == "aten::max_pool3d";
}

/// The largest code stands for the largest value.
bool sink_below_max_pool(LoweringContext& context, Node* node, Value* codes) {
  FusedOutput output;
  output.last = node->output();
  output.params = context.params_of(codes);
  const EngineRow* row = row_for(context, node, {codes}, output);
  if (row == nullptr) return false;
  Value* result = context.insert(node, row->kernel, row->arguments(context, node, {codes}, output), node);
  replace_by_codes(context, node, result, output.params, row->kernel);
  return true;
}

}  // namespace

void sink_below(LoweringContext& context, Node* node, Value* codes, const std::vector<Value*>& results,
                const CodeParams& params) {
  node->replaceInput(0, codes);
  context.record(node, std::string(node->kind().toQualString()) + " on codes");
  for (Value* result : results) {
    context.set_codes(result, params);
    context.set_lowered(result);
    result->setType(c10::TensorType::get());
    Node* dequantize = context.graph().create(c10::Symbol::fromQualString("aten::dequantize"), 1);
    dequantize->output()->setType(c10::TensorType::get());
    dequantize->insertAfter(result->node());
    result->replaceAllUsesWith(dequantize->output());
    dequantize->addInput(result);
  }
}

void replace_by_codes(LoweringContext& context, Node* node, Value* result, const CodeParams& params,
                      const std::string& kernel) {
  context.set_codes(result, params);
  context.stands_for(result, node->output());
  context.record(node, kernel);
  node->output()->replaceAllUsesWith(context.insert(node, "aten::dequantize", {result}, nullptr));
  context.destroy(node);
}

bool remove_roundtrip(LoweringContext& context, Node* quantize) {
  const Value* codes = context.codes_of(quantize->input(0));
  const auto params = quantizer_params(context, quantize);
  if (codes == nullptr || !params || !(context.params_of(codes) == *params)) return false;
  quantize->output()->replaceAllUsesWith(const_cast<Value*>(codes));
  context.destroy(quantize);
  return true;
}

// f(dequantize(q)) -> dequantize(f(q)) for operators that only move values or take their maximum, then
// quantize(dequantize(q)) with equal parameters -> q.
bool sink_dequantize(LoweringContext& context) {
  bool changed = false;
  const MutationAnalysis mutation(context.model().graph());
  for (Node* node : all_nodes(context.graph().block())) {
    if (node->kind() == c10::Symbol::fromQualString("aten::quantize_per_tensor")) {
      changed |= remove_roundtrip(context, node);
      continue;
    }
    if (node->kind() == c10::aten::cat) {
      changed |= sink_below_cat(context, node);
      continue;
    }
    if (node->inputs().empty()) continue;
    Value* codes = context.codes_of(node->input(0));
    if (codes != nullptr && is_max_pool(node)) {
      changed |= sink_below_max_pool(context, node, codes);
      continue;
    }
    if (!moves_values(context.model(), node)) continue;
    std::vector<Value*> results;
    if (!codes || !results_of(node, results)) continue;
    const bool written =
        std::any_of(results.begin(), results.end(), [&](Value* result) { return mutation.is_written_later(result); });
    if (written) {
      context.refuse(node, "its result is changed in place");
      continue;
    }
    const bool kept = std::any_of(results.begin(), results.end(),
                                  [&](const Value* result) { return !context.may_lower(node, result); });
    if (kept) continue;
    sink_below(context, node, codes, results, CodeParams(context.params_of(codes)));
    changed = true;
  }
  context.remove_dead_code();
  return changed;
}

}  // namespace tsquant

#include "lowering/engines/reference_run.h"

#include <algorithm>

#include "graph/node_lists.h"
#include "graph/params.h"
#include "graph/tensor_values.h"
#include "lowering/engines/engine.h"
#include "run/tap_runner.h"

namespace tsquant {

using torch::jit::Block;
using torch::jit::Node;
using torch::jit::Value;

namespace {

void number_block(const Block* block, ValueNumbers& numbers) {
  for (const Value* input : block->inputs()) numbers.emplace(input, numbers.size());
  for (const Node* node : block->nodes()) {
    for (const Value* output : node->outputs()) numbers.emplace(output, numbers.size());
    for (const Block* inner : node->blocks()) number_block(inner, numbers);
  }
}

/// Whether a lowered operator can stand for the node: it reads dequantized values, directly or in a list, takes apart
/// what such a node returned, or bounds its result.
bool is_near_codes(const Node* node) {
  const auto& inputs = node->inputs();
  if (!inputs.empty() && (is_clamp(node) || node->kind() == c10::prim::ListUnpack) &&
      is_near_codes(inputs[0]->node())) {
    return true;
  }
  return std::any_of(inputs.begin(), inputs.end(), [](const Value* input) {
    const Node* from = input->node();
    if (from->kind() != c10::prim::ListConstruct) return is_dequantizer(from);
    return std::any_of(from->inputs().begin(), from->inputs().end(),
                       [](const Value* element) { return is_dequantizer(element->node()); });
  });
}

/// Values that a lowered operator is compared with: results of quantizers, and float results near codes that are not
/// quantized right away.
bool is_compared(const Value* value) {
  const Node* node = value->node();
  if (is_quantizer(node)) return true;
  if (is_dequantizer(node) || !is_near_codes(node)) return false;
  const auto& uses = value->uses();
  return !std::all_of(uses.begin(), uses.end(), [](const torch::jit::Use& use) { return is_quantizer(use.user); });
}

/// The range of such a value decides the scale of its codes.
bool has_dynamic_quantizer(const Value* value) {
  const auto& uses = value->uses();
  return std::any_of(uses.begin(), uses.end(), [](const torch::jit::Use& use) {
    return use.user->kind() == c10::Symbol::fromQualString("aten::quantize_per_tensor_dynamic");
  });
}

}  // namespace

bool is_quantizer(const Node* node) { return node->kind() == c10::Symbol::fromQualString("aten::quantize_per_tensor"); }

bool is_dequantizer(const Node* node) {
  return node->kind() == c10::Symbol::fromQualString("aten::dequantize") ||
         node->kind() == c10::Symbol::fromQualString("tsquant::dequantize");
}

bool is_clamp(const Node* node) {
  static const std::vector<std::string> kinds = {"relu", "relu6", "hardtanh", "clamp", "clamp_min", "clamp_max"};
  return node->kind().is_aten() && std::count(kinds.begin(), kinds.end(), op_of(node)) > 0;
}

ValueNumbers number_values(const torch::jit::Graph& graph) {
  ValueNumbers numbers;
  number_block(graph.block(), numbers);
  return numbers;
}

ReferenceRun run_reference(const Model& reference, const Sample& probe) {
  const ValueNumbers numbers = number_values(*reference.graph());
  const ParamIndex params(reference);
  ReferenceRun run;
  run.tensors.resize(numbers.size());
  run.sizes.resize(numbers.size());
  run.layouts.resize(numbers.size());
  std::vector<TapPoint> taps;
  std::vector<size_t> tapped;
  std::vector<bool> compared;
  const auto add = [&](Value* value, bool compare) {
    if (value->type()->kind() != c10::TypeKind::TensorType || value->uses().empty() || value->mustBeNone() ||
        may_be_uninitialized(value) || params.find(value)) {
      return;
    }
    taps.push_back({value, {nullptr, 0}});
    tapped.push_back(numbers.at(value));
    compared.push_back(compare);
  };
  for (Value* input : reference.graph()->inputs()) add(input, has_dynamic_quantizer(input));
  for (Node* node : all_nodes(reference.graph()->block())) {
    for (Value* output : node->outputs()) add(output, is_compared(output) || has_dynamic_quantizer(output));
  }
  TapRunner(reference, taps).run(probe, [&](size_t tap, const at::Tensor& tensor) {
    const size_t number = tapped[tap];
    if (!tensor.defined()) return;
    if (!run.sizes[number]) {
      run.sizes[number] = tensor.sizes().vec();
      run.layouts[number] = layout_of(tensor);
    }
    // A later operator may write into the tensor.
    if (compared[tap]) run.tensors[number].push_back(tensor.clone());
  });
  return run;
}

}  // namespace tsquant

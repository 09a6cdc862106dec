#include "passes/nested_tensors.h"

#include <algorithm>
#include <string>

#include "graph/tensor_values.h"

namespace tsquant {

using torch::jit::Block;
using torch::jit::Node;
using torch::jit::Value;

namespace {

bool makes_nested(const Node* node) {
  static const std::unordered_set<std::string> kinds = {"aten::_nested_tensor_from_mask",
                                                        "aten::_nested_tensor_from_tensor_list",
                                                        "aten::_nested_from_padded",
                                                        "aten::_nested_from_padded_and_nested_example",
                                                        "aten::_nested_view_from_buffer",
                                                        "aten::_nested_view_from_buffer_copy",
                                                        "aten::_nested_tensor_softmax_with_shape"};
  return kinds.count(node->kind().toQualString()) != 0;
}

bool ends_nested(const Node* node) {
  static const std::unordered_set<std::string> kinds = {"aten::to_padded_tensor", "aten::nested_to_padded_tensor"};
  return kinds.count(node->kind().toQualString()) != 0;
}

}  // namespace

NestedTensors::NestedTensors(torch::jit::Graph& graph) {
  while (scan(graph.block())) {
  }
}

/// Values that loops carry and branches return.
bool NestedTensors::scan_blocks(Node* node) {
  const bool is_loop = node->kind() == c10::prim::Loop;
  bool changed = false;
  for (Block* block : node->blocks()) {
    const size_t skipped = is_loop ? 1 : 0;  // the body's first input counts, its first output is the condition
    for (size_t i = skipped; is_loop && i < block->inputs().size(); ++i) {
      if (may_hold(node->input(i + 1)) || may_hold(block->outputs()[i])) changed |= mark(block->inputs()[i]);
    }
    changed |= scan(block);
    for (size_t i = 0; i < node->outputs().size(); ++i) {
      const bool unturned =
          is_loop && may_hold(node->input(i + 2));  // a loop that never runs returns what it was given
      if (unturned || may_hold(block->outputs()[i + skipped])) changed |= mark(node->output(i));
    }
  }
  return changed;
}

bool NestedTensors::scan(Block* block) {
  bool changed = false;
  for (Node* node : block->nodes()) {
    if (!node->blocks().empty()) {
      changed |= scan_blocks(node);
      continue;
    }
    if (ends_nested(node)) continue;
    const auto inputs = node->inputs();
    if (!makes_nested(node) && std::none_of(inputs.begin(), inputs.end(), [&](const Value* v) { return may_hold(v); }))
      continue;
    for (const Value* output : node->outputs()) {
      if (carries_tensor(output->type())) changed |= mark(output);
    }
  }
  return changed;
}

}  // namespace tsquant

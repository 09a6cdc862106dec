#include "passes/identity_tests.h"

#include <torch/csrc/jit/ir/constants.h>

#include "graph/node_lists.h"

namespace tsquant {

namespace {

using torch::jit::Node;

bool are_one_value(const Node* branch, size_t a, size_t b) {
  for (const auto* block : branch->blocks()) {
    if (block->outputs()[a] != block->outputs()[b]) return false;
  }
  return true;
}

//   %q, %k = prim::If(%c)          %q, %k = prim::If(%c)
//     block0(): -> (%x, %x)    ->    block0(): -> (%x, %x)
//     block1(): -> (%y, %y)          block1(): -> (%y, %y)
//   f(%k)                          f(%q)
bool merge_equal_results(Node* branch) {
  bool changed = false;
  for (size_t b = 1; b < branch->outputs().size(); ++b) {
    for (size_t a = 0; a < b && branch->output(b)->hasUses(); ++a) {
      if (!are_one_value(branch, a, b)) continue;
      branch->output(b)->replaceAllUsesWith(branch->output(a));
      changed = true;
    }
  }
  return changed;
}

/// Results that are the same number, truth value or text in every branch.
bool fold_equal_constants(torch::jit::Graph& graph, Node* branch) {
  bool changed = false;
  for (size_t i = 0; i < branch->outputs().size(); ++i) {
    if (!branch->output(i)->hasUses() || branch->output(i)->type()->isSubtypeOf(*c10::TensorType::get())) continue;
    const auto first = torch::jit::toIValue(branch->blocks()[0]->outputs()[i]);
    const auto second = torch::jit::toIValue(branch->blocks()[1]->outputs()[i]);
    if (!first || !second || !(first->isScalar() || first->isString()) || first->tagKind() != second->tagKind() ||
        *first != *second) {
      continue;
    }
    const torch::jit::WithInsertPoint guard(branch);
    branch->output(i)->replaceAllUsesWith(graph.insertConstant(*first));
    changed = true;
  }
  return changed;
}

}  // namespace

bool fold_identity_tests(torch::jit::Graph& graph) {
  bool changed = false;
  for (Node* branch : nodes_of_kind(graph.block(), {"prim::If"})) {
    changed |= merge_equal_results(branch);
    changed |= fold_equal_constants(graph, branch);
  }
  for (Node* test : nodes_of_kind(graph.block(), {"aten::__is__", "aten::__isnot__"})) {
    if (test->input(0) != test->input(1) || !test->output()->hasUses()) continue;
    const torch::jit::WithInsertPoint guard(test);
    test->output()->replaceAllUsesWith(graph.insertConstant(test->kind() == c10::aten::__is__));
    changed = true;
  }
  return changed;
}

}  // namespace tsquant

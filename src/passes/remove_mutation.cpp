#include <torch/csrc/jit/passes/remove_mutation.h>

#include <torch/csrc/jit/ir/alias_analysis.h>

#include "graph/walk.h"
#include "passes/passes.h"
#include "passes/rewrite.h"

namespace tsquant {

namespace {

using torch::jit::AliasDb;
using torch::jit::Graph;
using torch::jit::Node;
using torch::jit::Value;

/// Operators `name_(Tensor(a!) self, ...) -> Tensor(a!)`.
bool is_in_place(const Node* node) {
  const auto* schema = node->maybeSchema();
  if (!schema || !node->kind().is_aten() || !schema->is_mutable() || node->outputs().size() != 1) return false;
  const std::string name = node->kind().toUnqualString();
  return name.size() > 1 && name.back() == '_' && name[name.size() - 2] != '_';
}

std::vector<const Value*> all_values(Graph& graph) {
  std::vector<const Value*> values(graph.inputs().begin(), graph.inputs().end());
  for (Node* node : all_nodes(graph.block())) {
    values.insert(values.end(), node->outputs().begin(), node->outputs().end());
    for (auto* block : node->blocks()) values.insert(values.end(), block->inputs().begin(), block->inputs().end());
  }
  return values;
}

/// Whether nobody can see that the argument of `node` is overwritten: it was made in the same block, has no alias, and
/// is read by others only before.
bool is_unobserved(const AliasDb& aliases, Graph& graph, Node* node) {
  Value* target = node->input(0);
  const Node* maker = target->node();
  if (maker->owningBlock() != node->owningBlock() || maker->kind() == c10::prim::Param ||
      maker->kind() == c10::prim::Constant || maker->kind() == c10::prim::GetAttr) {
    return false;
  }
  for (const auto& use : target->uses()) {
    if (use.user != node && !use.user->isBefore(node)) return false;
    if (use.user == node && use.offset != 0) return false;
  }
  for (const Value* other : all_values(graph)) {
    if (other == target || other == node->output()) continue;
    if (aliases.mayContainAlias(const_cast<Value*>(other), target)) {
      // Values made from the result are about the tensor after the write.
      if (other->node()->kind() == c10::prim::Param || !node->isBefore(other->node())) return false;
    }
  }
  return true;
}

/// LibTorch removes a mutation only where it can be moved next to the creation of the tensor. This one handles
/// `b = f(a); a.add_(1)`, where `f` reads the tensor in between.
bool remove_unobserved_mutation(PassContext& ctx) {
  const auto graph = ctx.model.graph();
  bool changed = false;
  std::unique_ptr<AliasDb> aliases;
  for (Node* node : all_nodes(graph->block())) {
    if (!is_in_place(node)) continue;
    ctx.at(node);
    if (!aliases) aliases = std::make_unique<AliasDb>(graph);
    if (!is_unobserved(*aliases, *graph, node)) continue;
    const std::string kind = node->kind().toQualString();
    const std::vector<Value*> inputs(node->inputs().begin(), node->inputs().end());
    Node* trial = graph->create(c10::Symbol::fromQualString(kind.substr(0, kind.size() - 1)), inputs, 1);
    trial->insertBefore(node);
    const bool exists = trial->maybeOperator() != nullptr;
    trial->destroy();
    if (!exists) continue;
    replace_node(node, kind.substr(0, kind.size() - 1), inputs);
    aliases.reset();
    changed = true;
  }
  return changed;
}

}  // namespace

// %y = aten::relu_(%x)   ->   %y = aten::relu(%x)
//
// Alias analysis decides where this keeps the meaning; what cannot be proven stays in place. The new operator inherits
// the scope and with it the name as written (`relu_`).
bool remove_mutation(PassContext& ctx) {
  auto graph = ctx.model.graph();
  bool changed = torch::jit::RemoveListMutation(graph);
  changed |= torch::jit::RemoveTensorMutation(graph);
  changed |= remove_unobserved_mutation(ctx);
  return changed;
}

}  // namespace tsquant

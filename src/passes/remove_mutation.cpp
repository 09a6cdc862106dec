#include <torch/csrc/jit/passes/remove_mutation.h>

#include <torch/csrc/jit/ir/alias_analysis.h>

#include "graph/dead_code.h"
#include "graph/fresh_writes.h"
#include "graph/node_lists.h"
#include "passes/passes.h"
#include "passes/rewrite.h"

namespace tsquant {

namespace {

using torch::jit::AliasDb;
using torch::jit::Graph;
using torch::jit::Node;
using torch::jit::Use;
using torch::jit::Value;

/// Operators `name_(Tensor(a!) self, ...) -> Tensor(a!)`.
bool is_in_place(const Node* node) {
  const auto* schema = node->maybeSchema();
  if (!schema || !node->kind().is_aten() || !schema->is_mutable() || node->outputs().size() != 1) return false;
  const std::string name = node->kind().toUnqualString();
  return name.size() > 1 && name.back() == '_' && name[name.size() - 2] != '_';
}

/// The operator without the underscore; empty when there is none.
std::string functional_kind(Node* node) {
  const std::string kind = node->kind().toQualString();
  const std::string result = kind.substr(0, kind.size() - 1);
  Node* trial = node->owningGraph()->create(c10::Symbol::fromQualString(result), node->inputs(), 1);
  trial->insertBefore(node);
  const bool exists = trial->maybeOperator() != nullptr;
  trial->destroy();
  return exists ? result : "";
}

/// Whether an operator only reads this argument: it keeps no alias of it and writes nothing into it.
bool keeps_no_alias(const Use& use) {
  const auto* schema = use.user->maybeSchema();
  return schema && use.user->kind().is_aten() && !is_dropout(use.user) && use.offset < schema->arguments().size() &&
         !schema->arguments()[use.offset].alias_info();
}

/// LibTorch writes other operators for these: `fill_` becomes `full_like`.
bool is_initialization(const Node* node) {
  return node->kind() == c10::aten::fill_ || node->kind() == c10::aten::zero_ || node->kind() == c10::aten::normal_;
}

/// Whether the argument that `node` overwrites is a tensor that an operator of the same block has just made, and that
/// others only read, and only before. This needs no alias analysis: that of LibTorch looks at the whole graph again
/// after every mutation that it removes.
bool overwrites_own_tensor(const Node* node) {
  const Value* target = node->input(0);
  const Node* maker = target->node();
  if (maker->owningBlock() != node->owningBlock() || !makes_new_tensor(maker)) return false;
  const auto& uses = target->uses();
  return std::all_of(uses.begin(), uses.end(), [node](const Use& use) {
    if (use.user == node) return use.offset == 0;
    return keeps_no_alias(use) && use.user->isBefore(node);
  });
}

bool remove_simple_mutation(RewriteContext& ctx) {
  bool changed = false;
  for (Node* node : all_nodes(ctx.model.graph()->block())) {
    if (!is_in_place(node) || is_initialization(node)) continue;
    ctx.at(node);
    if (!overwrites_own_tensor(node)) continue;
    const std::string kind = functional_kind(node);
    if (kind.empty()) continue;
    const std::vector<Value*> inputs(node->inputs().begin(), node->inputs().end());
    replace_node(node, kind, inputs);
    changed = true;
  }
  return changed;
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
/// `b = f(a); a.add_(1)`, where `f` reads the tensor in between. A write that is gone leaves fewer aliases, so what one
/// analysis allows stays allowed while its other findings are rewritten.
bool remove_unobserved_mutation(RewriteContext& ctx) {
  const auto graph = ctx.model.graph();
  std::vector<Node*> writers;
  for (Node* node : all_nodes(graph->block())) {
    if (is_in_place(node) && !functional_kind(node).empty()) writers.push_back(node);
  }
  if (writers.empty()) return false;
  const AliasDb aliases(graph);
  const auto stays = [&](Node* node) {
    ctx.at(node);
    return !is_unobserved(aliases, *graph, node);
  };
  writers.erase(std::remove_if(writers.begin(), writers.end(), stays), writers.end());
  for (Node* node : writers) {
    ctx.at(node);
    const std::vector<Value*> inputs(node->inputs().begin(), node->inputs().end());
    replace_node(node, functional_kind(node), inputs);
  }
  return !writers.empty();
}

}  // namespace

// %y = aten::relu_(%x)   ->   %y = aten::relu(%x)
//
// Alias analysis decides where this keeps the meaning; what cannot be proven stays in place. The new operator inherits
// the scope and with it the name as written (`relu_`).
bool remove_mutation(RewriteContext& ctx) {
  auto graph = ctx.model.graph();
  bool changed = remove_simple_mutation(ctx);
  if (!has_mutation(graph->block())) return changed;
  changed |= torch::jit::RemoveListMutation(graph);
  changed |= torch::jit::RemoveTensorMutation(graph);
  while (remove_unobserved_mutation(ctx)) changed = true;
  return changed;
}

}  // namespace tsquant

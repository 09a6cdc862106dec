#include "passes/remove_checks.h"

#include <unordered_map>
#include <unordered_set>

#include "graph/node_lists.h"

namespace tsquant {

namespace {

using torch::jit::Block;
using torch::jit::Node;
using torch::jit::Value;

/// A branch that only raises: computing the message has no effect.
bool only_raises(Block* block) {
  bool raises = false;
  for (Node* node : block->nodes()) {
    raises = raises || node->kind() == c10::prim::RaiseException;
    if (node->kind() != c10::prim::RaiseException && (node->hasSideEffects() || !node->blocks().empty())) return false;
  }
  return raises;
}

bool is_empty(Block* block) { return block->nodes().begin() == block->nodes().end(); }

/// Operators whose result has the content of their argument: its shape says something about the argument's.
bool keeps_content(const Node* node) {
  static const std::unordered_set<std::string> names = {
      "aten::unsqueeze", "aten::squeeze", "aten::slice",   "aten::select",    "aten::to",          "aten::contiguous",
      "aten::view",      "aten::reshape", "aten::permute", "aten::transpose", "aten::flatten",     "aten::detach",
      "aten::expand",    "aten::alias",   "prim::data",    "aten::narrow",    "aten::__getitem__", "aten::t"};
  return names.count(node->kind().toQualString()) != 0;
}

/// What is known about values: a value that is being looked at counts as not depending.
using Dependence = std::unordered_map<const Value*, bool>;

bool depends_on_input(const Value* value, Dependence& known);

bool find_dependence(const Value* value, Dependence& known) {
  const Node* node = value->node();
  if (node->kind() == c10::prim::Param) {
    const Node* outer = node->owningBlock()->owningNode();
    return outer ? true : value->offset() != 0;  // input 0 is self
  }
  if (node->kind() == c10::prim::GetAttr) return false;
  if (holds_tensor(value) && node->blocks().empty() && node->kind() != c10::prim::TupleUnpack && !keeps_content(node)) {
    return false;
  }
  const auto depends = [&](const Value* other) { return depends_on_input(other, known); };
  for (const Block* block : node->blocks()) {
    if (std::any_of(block->outputs().begin(), block->outputs().end(), depends)) return true;
  }
  return std::any_of(node->inputs().begin(), node->inputs().end(), depends);
}

/// Whether an input of the model decides the value, directly or through its shape.
bool depends_on_input(const Value* value, Dependence& known) {
  const auto [place, is_new] = known.emplace(value, false);
  return is_new ? (known[value] = find_dependence(value, known)) : place->second;
}

}  // namespace

bool remove_internal_checks(torch::jit::Graph& graph) {
  bool changed = false;
  // Only checks go, which no value depends on, so what was found out stays true.
  Dependence known;
  for (Node* node : nodes_of_kind(graph.block(), {"prim::If"})) {
    if (!node->outputs().empty()) continue;
    Block *first = node->blocks()[0], *second = node->blocks()[1];
    if (!(only_raises(first) && is_empty(second)) && !(is_empty(first) && only_raises(second))) continue;
    if (depends_on_input(node->input(), known)) continue;
    node->destroy();
    changed = true;
  }
  return changed;
}

}  // namespace tsquant

#include "graph/dead_code.h"

#include <torch/csrc/jit/passes/dead_code_elimination.h>

#include "graph/node_lists.h"

namespace tsquant {

using torch::jit::Block;
using torch::jit::Node;

namespace {

bool is_mutating(const Node* node) {
  const auto* schema = node->maybeSchema();
  return schema && schema->is_mutable();
}

/// Results of control flow may be dead one by one, and those that a loop carries may keep one another alive.
bool has_results_of_blocks(const Node* node) {
  return !node->blocks().empty() && (node->kind() != c10::prim::If || !node->outputs().empty());
}

bool has_effect(Node* node) {
  if (node->hasSideEffects() || is_mutating(node) || node->kind() == c10::prim::SetAttr) return true;
  const auto blocks = node->blocks();
  return std::any_of(blocks.begin(), blocks.end(), [](Block* block) {
    return std::any_of(block->nodes().begin(), block->nodes().end(), has_effect);
  });
}

/// From the last node to the first: all readers of a node have been looked at before it. LibTorch marks what is read
/// in a hash table, which does not stay in the caches of the processor.
void sweep(Block* block) {
  for (Node* node = block->return_node()->prev(); node != block->param_node();) {
    Node* before = node->prev();
    if (!node->hasUses() && !has_effect(node)) {
      node->destroy();
    } else {
      for (Block* inner : node->blocks()) sweep(inner);
    }
    node = before;
  }
}

/// What writes, and whose result is read by what stays, stays itself, whatever it writes into.
bool may_be_dead_writer(const Node* node) { return is_mutating(node) && (!node->hasUses() || is_in_loop(node)); }

}  // namespace

bool has_mutation(const Block* block) { return any_node(block, is_mutating); }

void remove_unread(Block* block) {
  if (any_node(block, has_results_of_blocks)) {
    torch::jit::EliminateDeadCode(block);
  } else {
    sweep(block);
  }
}

void remove_dead_code(const std::shared_ptr<torch::jit::Graph>& graph) {
  remove_unread(graph->block());
  if (any_node(graph->block(), may_be_dead_writer)) torch::jit::EliminateDeadCode(graph);
}

}  // namespace tsquant

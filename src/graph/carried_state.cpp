#include "graph/carried_state.h"

#include <torch/csrc/jit/ir/alias_analysis.h>

#include <algorithm>
#include <set>

#include "graph/fresh_writes.h"
#include "graph/node_lists.h"

namespace tsquant {

namespace {

using torch::jit::Block;
using torch::jit::Node;

bool writes_attribute(Block* block, const torch::jit::AliasDb& aliases) {
  for (Node* node : block->nodes()) {
    if (node->kind() == c10::prim::GetAttr && !node->output()->type()->cast<c10::ClassType>() &&
        aliases.hasWriters(node->output())) {
      return true;
    }
    for (Block* inner : node->blocks()) {
      if (writes_attribute(inner, aliases)) return true;
    }
  }
  return false;
}

}  // namespace

bool is_stateful(const Model& model) {
  const auto graph = model.graph();
  if (any_node(graph->block(), [](const Node* node) { return node->kind() == c10::prim::SetAttr; })) return true;
  const auto may_write_attribute = [](const Node* node) { return !writes_only_new_tensors(node); };
  return any_node(graph->block(), may_write_attribute) && writes_attribute(graph->block(), torch::jit::AliasDb(graph));
}

bool is_recurrent(const ViewNode& node) {
  static const std::set<std::string> types{"lstm",      "gru",      "rnn_tanh",      "rnn_relu",
                                           "lstm_cell", "gru_cell", "rnn_tanh_cell", "rnn_relu_cell"};
  return node.kind == NodeKind::kOperator && types.count(node.type) > 0;
}

bool has_recurrent(const GraphView& view) {
  return std::any_of(view.nodes().begin(), view.nodes().end(), is_recurrent);
}

}  // namespace tsquant

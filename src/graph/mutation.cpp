#include "graph/mutation.h"

#include "graph/node_lists.h"

namespace tsquant {

using torch::jit::Node;
using torch::jit::Value;

namespace {

bool is_in_loop(const Node* node) {
  for (const Node* outer = node->owningBlock()->owningNode(); outer; outer = outer->owningBlock()->owningNode()) {
    if (outer->kind() == c10::prim::Loop) return true;
  }
  return false;
}

}  // namespace

MutationAnalysis::MutationAnalysis(const std::shared_ptr<torch::jit::Graph>& graph) : aliases_(graph) {
  for (Node* node : all_nodes(graph->block())) {
    const auto* schema = node->maybeSchema();
    if (schema && schema->is_mutable()) writers_.push_back(node);
  }
}

bool MutationAnalysis::is_written_later(Value* value) const {
  const bool is_block_input = value->node()->kind() == c10::prim::Param;
  for (Node* writer : writers_) {
    if (writer == value->node() || !aliases_.writesToAlias(writer, {value})) continue;
    if (is_block_input || is_in_loop(writer) || !writer->isBefore(value->node())) return true;
  }
  return false;
}

}  // namespace tsquant

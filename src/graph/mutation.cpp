#include "graph/mutation.h"

#include "graph/fresh_writes.h"
#include "graph/node_lists.h"

namespace tsquant {

using torch::jit::Node;
using torch::jit::Value;

MutationAnalysis::MutationAnalysis(const std::shared_ptr<torch::jit::Graph>& graph)
    : aliases_(graph), inputs_(graph->param_node()) {
  for (Node* node : all_nodes(graph->block())) {
    if (node->kind() == c10::prim::SetAttr) assigned_.insert(node->s(c10::attr::name));
    const auto* schema = node->maybeSchema();
    if (schema && schema->is_mutable()) writers_.push_back(node);
  }
}

/// Whether all that an operator writes into are buffers of the module that no other tensor takes the place of.
bool MutationAnalysis::writes_only_buffers(const Node* writer) const {
  const auto& arguments = writer->schema().arguments();
  for (size_t i = 0; i < arguments.size(); ++i) {
    const auto* alias = arguments[i].alias_info();
    if (alias == nullptr || !alias->isWrite()) continue;
    const Node* source = writer->input(i)->node();
    while (returns_its_argument(source)) source = source->input(0)->node();
    if (source->kind() != c10::prim::GetAttr || assigned_.count(source->s(c10::attr::name)) > 0) return false;
  }
  return true;
}

bool MutationAnalysis::is_written_later(Value* value) const {
  const bool is_block_input = value->node()->kind() == c10::prim::Param;
  for (Node* writer : writers_) {
    if (writer == value->node() || !aliases_.writesToAlias(writer, {value})) continue;
    // The analysis takes inputs and buffers for aliases: a counter of calls would be written into the input.
    if (value->node() == inputs_ && writes_only_buffers(writer)) continue;
    if (is_block_input || is_in_loop(writer) || !writer->isBefore(value->node())) return true;
  }
  return false;
}

}  // namespace tsquant

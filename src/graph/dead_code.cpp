#include "graph/dead_code.h"

#include <torch/csrc/jit/passes/dead_code_elimination.h>

#include "graph/node_lists.h"

namespace tsquant {

bool has_mutation(const torch::jit::Block* block) {
  return any_node(block, [](const torch::jit::Node* node) {
    const auto* schema = node->maybeSchema();
    return schema && schema->is_mutable();
  });
}

void remove_dead_code(const std::shared_ptr<torch::jit::Graph>& graph) {
  if (has_mutation(graph->block())) {
    torch::jit::EliminateDeadCode(graph);
  } else {
    torch::jit::EliminateDeadCode(graph->block());
  }
}

}  // namespace tsquant

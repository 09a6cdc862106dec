#include "graph/dead_code.h"

#include <torch/csrc/jit/passes/dead_code_elimination.h>

#include <algorithm>

namespace tsquant {

bool has_mutation(const torch::jit::Block* block) {
  for (const torch::jit::Node* node : block->nodes()) {
    const auto* schema = node->maybeSchema();
    if (schema && schema->is_mutable()) return true;
    const auto blocks = node->blocks();
    if (std::any_of(blocks.begin(), blocks.end(), has_mutation)) return true;
  }
  return false;
}

void remove_dead_code(const std::shared_ptr<torch::jit::Graph>& graph) {
  if (has_mutation(graph->block())) {
    torch::jit::EliminateDeadCode(graph);
  } else {
    torch::jit::EliminateDeadCode(graph->block());
  }
}

}  // namespace tsquant

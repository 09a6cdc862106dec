#include "run/argument_copies.h"

#include "graph/fresh_writes.h"
#include "graph/node_lists.h"

namespace tsquant {

bool may_write_to_arguments(const torch::jit::Graph& graph) {
  return any_node(graph.block(), [](const torch::jit::Node* node) { return may_write_to_arguments(node); });
}

Sample deep_copy(const Sample& sample) {
  Sample copy;
  for (const auto& value : sample.args) copy.args.push_back(value.deepcopy());
  for (const auto& [name, value] : sample.kwargs) copy.kwargs.emplace(name, value.deepcopy());
  return copy;
}

}  // namespace tsquant

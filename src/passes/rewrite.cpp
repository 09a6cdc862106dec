#include "passes/rewrite.h"

#include <unordered_set>

#include "graph/names.h"
#include "graph/walk.h"

namespace tsquant {

using torch::jit::Node;
using torch::jit::Value;

Node* replace_node(Node* old, const std::string& kind, const std::vector<Value*>& inputs) {
  Node* node = old->owningGraph()->create(c10::Symbol::fromQualString(kind), inputs, 1);
  node->insertBefore(old);
  node->copyMetadata(old);
  copy_names(old, node);
  node->output()->copyMetadata(old->output());
  old->output()->replaceAllUsesWith(node->output());
  old->destroy();
  return node;
}

void rename_function(torch::jit::Graph& graph, Node* node, const std::string& type) {
  NodeNames names = names_of(node);
  const auto ordinal = names.name.rfind('/');
  if (ordinal == std::string::npos) return;
  const auto function = names.name.rfind('/', ordinal - 1);
  const std::string path = function == std::string::npos ? "" : names.name.substr(0, function + 1);
  std::unordered_set<std::string> taken;
  for (const Node* other : all_nodes(graph.block())) {
    if (other != node) taken.insert(names_of(other).name);
  }
  for (int index = 0;; ++index) {
    names.name = path + type + "/" + std::to_string(index);
    if (!taken.count(names.name)) break;
  }
  set_names(node, names);
}

}  // namespace tsquant

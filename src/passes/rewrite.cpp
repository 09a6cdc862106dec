#include "passes/rewrite.h"

#include "graph/names.h"
#include "graph/node_lists.h"

namespace tsquant {

using torch::jit::Node;
using torch::jit::Value;

namespace {

/// The name before its ordinal, with the slash.
std::string base_of(const std::string& name) { return name.substr(0, name.rfind('/') + 1); }

}  // namespace

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

FunctionNames::FunctionNames(torch::jit::Graph& graph) {
  for (const Node* node : all_nodes(graph.block())) ++taken_[names_of(node).name];
}

void FunctionNames::release(const std::string& name) {
  const auto known = taken_.find(name);
  if (known == taken_.end() || --known->second > 0) return;
  taken_.erase(known);
  next_.erase(base_of(name));
}

void FunctionNames::rename(Node* node, const std::string& type) {
  NodeNames names = names_of(node);
  const auto ordinal = names.name.rfind('/');
  if (ordinal == std::string::npos) return;
  const auto function = names.name.rfind('/', ordinal - 1);
  release(names.name);
  const std::string base = (function == std::string::npos ? "" : names.name.substr(0, function + 1)) + type + "/";
  int64_t& next = next_[base];
  while (taken_.count(base + std::to_string(next))) ++next;
  names.name = base + std::to_string(next);
  ++taken_[names.name];
  set_names(node, names);
}

}  // namespace tsquant

#pragma once

#include <torch/csrc/jit/ir/ir.h>

#include <algorithm>
#include <string>
#include <vector>

namespace tsquant {

namespace detail {
inline void collect_nodes(torch::jit::Block* block, std::vector<torch::jit::Node*>& nodes) {
  for (torch::jit::Node* node : block->nodes()) {
    nodes.push_back(node);
    for (torch::jit::Block* inner : node->blocks()) collect_nodes(inner, nodes);
  }
}
}  // namespace detail

/// Every node of a block and of its inner blocks, in execution order. A list, so that the graph may be edited
/// meanwhile.
inline std::vector<torch::jit::Node*> all_nodes(torch::jit::Block* block) {
  std::vector<torch::jit::Node*> nodes;
  detail::collect_nodes(block, nodes);
  return nodes;
}

/// Whether one of the nodes of a block, those of its inner blocks included, is such a one.
/// @param predicate bool(const torch::jit::Node*)
template <typename Predicate>
bool any_node(const torch::jit::Block* block, const Predicate& predicate) {
  return std::any_of(block->nodes().begin(), block->nodes().end(), [&](const torch::jit::Node* node) {
    if (predicate(node)) return true;
    const auto blocks = node->blocks();
    return std::any_of(blocks.begin(), blocks.end(),
                       [&](const torch::jit::Block* inner) { return any_node(inner, predicate); });
  });
}

/// Whether a node may run more than once.
inline bool is_in_loop(const torch::jit::Node* node) {
  for (const auto* outer = node->owningBlock()->owningNode(); outer; outer = outer->owningBlock()->owningNode()) {
    if (outer->kind() == c10::prim::Loop) return true;
  }
  return false;
}

/// Whether a value is a tensor, of whatever shape and type.
inline bool holds_tensor(const torch::jit::Value* value) { return value->type()->isSubtypeOf(*c10::TensorType::get()); }

/// Whether a node is of this kind, for example "aten::conv2d".
inline bool is_kind(const torch::jit::Node* node, const char* kind) {
  return node->kind() == c10::Symbol::fromQualString(kind);
}

/// The nodes of these kinds, for example {"aten::conv2d"}.
inline std::vector<torch::jit::Node*> nodes_of_kind(torch::jit::Block* block, const std::vector<std::string>& kinds) {
  std::vector<c10::Symbol> symbols;
  for (const auto& kind : kinds) symbols.push_back(c10::Symbol::fromQualString(kind));
  std::vector<torch::jit::Node*> found;
  for (torch::jit::Node* node : all_nodes(block)) {
    if (std::find(symbols.begin(), symbols.end(), node->kind()) != symbols.end()) found.push_back(node);
  }
  return found;
}

}  // namespace tsquant

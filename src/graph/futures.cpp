#include "graph/futures.h"

#include "graph/node_lists.h"

namespace tsquant {

namespace {

using torch::jit::Block;
using torch::jit::Node;
using torch::jit::Value;

c10::TypePtr without_futures(const c10::TypePtr& type) {
  if (const auto future = type->cast<c10::FutureType>()) return without_futures(future->getElementType());
  const bool container = type->kind() == c10::TypeKind::ListType || type->kind() == c10::TypeKind::OptionalType ||
                         type->kind() == c10::TypeKind::TupleType || type->kind() == c10::TypeKind::DictType;
  if (!container) return type;
  std::vector<c10::TypePtr> inner;
  bool changed = false;
  for (const auto& contained : type->containedTypes()) {
    inner.push_back(without_futures(contained));
    changed = changed || inner.back() != contained;
  }
  return changed ? type->withContained(std::move(inner)) : type;
}

bool holds_future(const Value* value) { return without_futures(value->type()) != value->type(); }

/// Operators that only hand futures on.
bool hands_on(const Node* node) {
  const auto kind = node->kind();
  if (!node->blocks().empty() || kind == c10::aten::wait) return true;
  const bool moves = kind == c10::prim::ListConstruct || kind == c10::prim::TupleConstruct ||
                     kind == c10::prim::DictConstruct || kind == c10::prim::Uninitialized ||
                     kind == c10::prim::Constant;  // None of an optional future
  return moves || std::any_of(node->inputs().begin(), node->inputs().end(), holds_future);
}

void erase(Block* block) {
  for (Value* input : block->inputs()) input->setType(without_futures(input->type()));
  for (auto it = block->nodes().begin(); it != block->nodes().end();) {
    Node* node = *it++;
    for (Value* output : node->outputs()) output->setType(without_futures(output->type()));
    for (Block* inner : node->blocks()) erase(inner);
    if (node->kind() != c10::aten::wait) continue;
    node->output()->replaceAllUsesWith(node->input());
    node->destroy();
  }
}

}  // namespace

const Node* erase_futures(torch::jit::Graph& graph) {
  for (const Value* input : graph.inputs()) {
    if (holds_future(input) && input->hasUses()) return input->uses()[0].user;
  }
  for (const Node* node : all_nodes(graph.block())) {
    const auto outputs = node->outputs();
    if (std::any_of(outputs.begin(), outputs.end(), holds_future) && !hands_on(node)) return node;
  }
  erase(graph.block());
  return nullptr;
}

}  // namespace tsquant

#include "graph/shared_weight.h"

#include "graph/params.h"

namespace tsquant {

using torch::jit::Block;
using torch::jit::Node;
using torch::jit::Value;

namespace {

/// Removes a chain of attribute reads that nobody uses; a dead reader would still count as a reader of the parameter.
void remove_if_dead(Value* value) {
  Node* node = value->node();
  while (node->kind() == c10::prim::GetAttr && !node->hasUses()) {
    Node* owner = node->input()->node();
    forget_access(node);
    node->destroy();
    node = owner;
  }
}

/// Moves a constant or a chain of attribute reads to the start of the graph, where it dominates every use.
void hoist(Value* value) {
  Node* node = value->node();
  Block* top = node->owningGraph()->block();
  if (node->kind() == c10::prim::GetAttr) hoist(node->input());
  if (node->kind() != c10::prim::GetAttr && node->kind() != c10::prim::Constant) return;
  Node* position = top->param_node();
  if (node->kind() == c10::prim::GetAttr && node->input()->node()->kind() == c10::prim::GetAttr) {
    position = node->input()->node();
  }
  node->moveAfter(position);
}

}  // namespace

Node* insert_reader(Model& model, const std::vector<ParameterUse>& uses, const std::string& kind) {
  auto graph = model.graph();
  Value* parameter = uses.front().first->input(uses.front().second);
  Node* reader = graph->create(c10::Symbol::fromQualString(kind), {parameter}, 1);
  if (uses.size() == 1) {
    reader->insertBefore(uses.front().first);
  } else {
    hoist(parameter);
    reader->insertAfter(parameter->node());
  }
  for (const auto& [user, index] : uses) {
    Value* old = user->input(index);
    user->replaceInput(index, reader->output());
    remove_if_dead(old);
  }
  return reader;
}

void replace_parameter(Model& model, const std::vector<ParameterUse>& uses, const at::Tensor& tensor) {
  if (uses.size() == 1) {
    set_param(model, uses.front().first, uses.front().second, tensor);
    return;
  }
  // With a single reader in between, the parameter has one reader in this graph.
  Node* reader = insert_reader(model, uses, "aten::alias");
  set_param(model, reader, 0, tensor);
  reader->output()->replaceAllUsesWith(reader->input());
  reader->destroy();
}

}  // namespace tsquant

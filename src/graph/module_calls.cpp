#include "graph/module_calls.h"

#include "graph/insert_op.h"
#include "graph/node_lists.h"

namespace tsquant {

using torch::jit::Graph;
using torch::jit::Node;
using torch::jit::Value;

Value* insert_module_call(Graph& graph, const std::string& attribute, const std::vector<Value*>& arguments) {
  std::vector<Value*> inputs{graph.insertGetAttr(graph.inputs().at(0), attribute)};
  inputs.insert(inputs.end(), arguments.begin(), arguments.end());
  Value* result = insert_op(graph, "prim::CallMethod", inputs);
  result->node()->s_(c10::attr::name, "forward");
  return result;
}

std::vector<ModuleCall> module_calls(Graph& graph, const std::string& prefix) {
  std::vector<ModuleCall> calls;
  for (Node* call : nodes_of_kind(graph.block(), {"prim::CallMethod"})) {
    const Node* object = call->input(0)->node();
    if (object->kind() != c10::prim::GetAttr) continue;
    const std::string& attribute = object->s(c10::attr::name);
    if (attribute.compare(0, prefix.size(), prefix) == 0) calls.push_back({call, attribute});
  }
  return calls;
}

void remove_module_call(Node* call) {
  Node* object = call->input(0)->node();
  call->destroy();
  if (!object->hasUses()) object->destroy();
}

}  // namespace tsquant

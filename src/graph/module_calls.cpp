#include "graph/module_calls.h"

#include "graph/attribute_slots.h"
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

bool is_opaque_call(const Node* node) {
  if (node->kind() != c10::prim::CallMethod) return false;
  const Node* object = node->input(0)->node();
  return object->kind() == c10::prim::GetAttr && object->s(c10::attr::name).rfind(kOpaquePrefix, 0) == 0;
}

void replace_opaque(torch::jit::Module& root, const std::string& attribute, const torch::jit::Module& module) {
  remove_attribute(root, attribute);
  root.register_module(attribute, module);
  for (const auto& [call, name] : module_calls(*root.get_method("forward").graph(), kOpaquePrefix)) {
    if (name == attribute) call->input(0)->setType(module.type());
  }
}

std::set<const c10::ivalue::Object*> opaque_objects(const torch::jit::Module& root) {
  std::set<const c10::ivalue::Object*> objects;
  for (const auto& child : root.named_children()) {
    if (child.name.rfind(kOpaquePrefix, 0) != 0) continue;
    for (const auto& module : child.value.modules()) objects.insert(module._ivalue().get());
  }
  return objects;
}

void remove_module_call(Node* call) {
  Node* object = call->input(0)->node();
  call->destroy();
  if (!object->hasUses()) object->destroy();
}

}  // namespace tsquant

#include <string>

#include "graph/node_lists.h"
#include "graph/params.h"
#include "passes/passes.h"

namespace tsquant {

namespace {

using torch::jit::Graph;
using torch::jit::Node;
using torch::jit::Value;

bool answers_alike(const at::Tensor& one, const at::Tensor& other) {
  return one.device() == other.device() && one.requires_grad() == other.requires_grad();
}

/// A vector of the module that owns the attribute: what moves or freezes a module does so to both.
/// @return its name, or "" when there is none
std::string small_neighbour(const AttributeSlot& slot, const at::Tensor& parameter) {
  const auto& type = *slot.owner->type();
  for (size_t i = 0; i < type.numAttributes(); ++i) {
    const c10::IValue& value = slot.owner->getSlot(i);
    if (!type.is_parameter(i) || !value.isTensor() || !value.toTensor().defined()) continue;
    const at::Tensor& other = value.toTensor();
    if (other.dim() <= 1 && other.is_floating_point() && answers_alike(parameter, other))
      return type.getAttributeName(i);
  }
  return "";
}

/// The vector's value, read where the parameter is; null when its content is not known.
Value* read_neighbour(const Model& model, Graph& graph, Node* attribute, const std::string& name) {
  const torch::jit::WithInsertPoint guard(attribute);
  Node* read = graph.insertNode(graph.createGetAttr(attribute->input(), name));
  read->output()->setType(c10::TensorType::get());
  if (param_of(model, read->output())) return read->output();
  read->destroy();
  return nullptr;
}

}  // namespace

// %on = prim::is_cuda(%weight)   ->   %bias = prim::GetAttr[name="bias"](%linear); %on = prim::is_cuda(%bias)
//
// Where a module is and whether it is trained are questions to all of its parameters, as the encoder layers of torch.nn
// ask before they take their fast path. Quantized weights would have to stay in float to answer them.
bool ask_small_parameters(RewriteContext& ctx) {
  auto graph = ctx.model.graph();
  bool changed = false;
  for (Node* node : nodes_of_kind(graph->block(), {"prim::device", "prim::is_cuda", "prim::requires_grad"})) {
    Node* attribute = node->input()->node();
    if (attribute->kind() != c10::prim::GetAttr) continue;
    ctx.at(node);
    const auto parameter = param_of(ctx.model, node->input());
    const auto slot = slot_of(ctx.model, node->input());
    if (!parameter || !slot || parameter->tensor.dim() <= 1) continue;
    const std::string name = small_neighbour(*slot, parameter->tensor);
    Value* neighbour = name.empty() ? nullptr : read_neighbour(ctx.model, *graph, attribute, name);
    if (neighbour == nullptr) continue;
    node->replaceInput(0, neighbour);
    changed = true;
  }
  return changed;
}

}  // namespace tsquant

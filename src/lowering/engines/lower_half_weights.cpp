#include <ATen/ATen.h>

#include <map>
#include <string>

#include "graph/node_lists.h"
#include "graph/params.h"
#include "lowering/engines/lowering_context.h"

namespace tsquant {

using torch::jit::Node;
using torch::jit::Value;

// Weights in float16 would become floats at every call:
// aten::dequantize(%weight)   ->   tsquant::half_floats(%packed), which converts at the first one
bool lower_half_weights(LoweringContext& context) {
  const EngineRow* row = context.engine().find("half_weight");
  if (row == nullptr) return false;
  std::map<std::string, std::string> attributes;  // of weights that have names
  bool changed = false;
  for (Node* node : nodes_of_kind(context.graph().block(), {"aten::dequantize"})) {
    const auto weight = param_of(context.model(), node->input(0));
    if (!weight || weight->tensor.scalar_type() != at::kHalf) continue;
    const torch::jit::WithInsertPoint guard(node);
    const auto known = attributes.find(weight->name);
    Value* packed = nullptr;
    if (known != attributes.end()) {
      packed = context.graph().insertGetAttr(context.graph().inputs().at(0), known->second);
    } else {
      packed = context.attribute(node, weight->name, call_operator("tsquant::half_pack", {weight->tensor}));
      if (!weight->name.empty()) attributes[weight->name] = packed->node()->s(c10::attr::name);
    }
    Value* floats = context.insert(node, row->kernel, {packed}, node);
    floats->copyMetadata(node->output());
    node->output()->replaceAllUsesWith(floats);
    context.destroy(node);
    changed = true;
  }
  if (changed) context.remove_dead_code();
  return changed;
}

}  // namespace tsquant

#include "graph/node_lists.h"
#include "lowering/lowering.h"

namespace tsquant {

using torch::jit::Node;
using torch::jit::Value;

// %d = aten::dequantize(%q); %a = f(%d); %b = g(%d)
//   ->
// %d = aten::dequantize(%q); %a = f(%d); %e = aten::dequantize(%q); %b = g(%e)
bool duplicate_dequantize(Model& model) {
  auto graph = model.graph();
  bool changed = false;
  for (Node* node :
       nodes_of_kind(graph->block(), {"aten::dequantize", "quantized_decomposed::dequantize_per_tensor",
                                      "quantized_decomposed::dequantize_per_channel", "tsquant::dequantize_fp8"})) {
    const auto uses = node->output()->uses();
    for (size_t i = 1; i < uses.size(); ++i) {
      Node* copy = graph->createClone(node, [](Value* value) { return value; });
      copy->insertBefore(uses[i].user);
      uses[i].user->replaceInput(uses[i].offset, copy->output());
      changed = true;
    }
  }
  return changed;
}

}  // namespace tsquant

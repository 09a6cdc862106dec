#include <ATen/ATen.h>

#include "graph/params.h"
#include "graph/weighted_layer.h"
#include "lowering/engines/lowering_context.h"

namespace tsquant {

using torch::jit::Node;

// Weights of layers that stay in float would be dequantized again at every call:
// aten::conv2d(%x, dequantize(weight), ...)   ->   aten::conv2d(%x, %constant, ...)
bool unpack_float_weights(LoweringContext& context) {
  bool changed = false;
  for (Node* node : weighted_nodes(context.graph().block())) {
    Node* weight = node->input(WeightedLayer::kWeight)->node();
    if (!is_dequantizer(weight)) continue;
    const auto codes = param_of(context.model(), weight->input(0));
    if (!codes || !codes->tensor.is_quantized()) continue;
    node->replaceInput(WeightedLayer::kWeight, context.constant(node, codes->tensor.dequantize()));
    changed = true;
  }
  context.remove_dead_code();
  return changed;
}

}  // namespace tsquant

#include <algorithm>

#include "graph/params.h"
#include "graph/weighted_layer.h"
#include "lowering/engines/lowering_context.h"

namespace tsquant {

using torch::jit::Node;

namespace {

bool all_are(const std::vector<int64_t>& list, int64_t value) {
  return std::all_of(list.begin(), list.end(), [&](int64_t element) { return element == value; });
}

/// A float convolution with a 1x1 kernel, without stride, padding and groups.
bool is_pointwise_float(const Model& model, const Node* node) {
  const auto layer = weighted_layer(model, node);
  if (!layer || op_of(node) != "conv2d" || !layer->stride || !layer->dilation || !layer->padding || !layer->layout()) {
    return false;
  }
  const auto weight = param_of(model, node->input(WeightedLayer::kWeight));
  if (!weight || weight->tensor.scalar_type() != at::kFloat || weight->tensor.dim() != 4) return false;
  const auto geometry = layer->geometry(weight->tensor.sizes());
  return geometry && !geometry->transposed && geometry->groups == 1 && all_are(geometry->kernel, 1) &&
         all_are(geometry->stride, 1) && all_are(geometry->padding, 0);
}

/// Whether the input was one image of one pixel on the probe sample.
bool reads_one_pixel(const LoweringContext& context, const Node* node) {
  const auto number = context.original_of(node->input(WeightedLayer::kInput));
  if (!number || !context.reference().sizes[*number]) return false;
  const auto& sizes = *context.reference().sizes[*number];
  return sizes.size() == 4 && sizes[0] == 1 && sizes[2] == 1 && sizes[3] == 1;
}

}  // namespace

// aten::conv2d(%x, weight, bias, [1, 1], [0, 0], [1, 1], 1)   ->   tsquant::pixel_conv(%x, weight, bias)
// for the layers of squeeze-and-excitation blocks, which stay in float.
bool lower_pixel_convolutions(LoweringContext& context) {
  const EngineRow* row = context.engine().find("pixel_conv2d");
  if (row == nullptr) return false;
  bool changed = false;
  for (Node* node : weighted_nodes(context.graph().block())) {
    if (!is_pointwise_float(context.model(), node) || !reads_one_pixel(context, node)) continue;
    torch::jit::Value* result = context.insert(
        node, row->kernel,
        {node->input(WeightedLayer::kInput), node->input(WeightedLayer::kWeight), node->input(WeightedLayer::kBias)},
        node);
    context.record(node, row->kernel);
    context.stands_for(result, node->output());
    node->output()->replaceAllUsesWith(result);
    context.destroy(node);
    changed = true;
  }
  return changed;
}

}  // namespace tsquant

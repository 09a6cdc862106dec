#include "graph/node_lists.h"
#include "graph/params.h"
#include "passes/passes.h"
#include "passes/rewrite.h"

namespace tsquant {

namespace {

using torch::jit::Node;

/// Number of spatial dimensions: from the weight, else from the stride; 0 when unknown.
int64_t spatial_dims(const Model& model, const Node* node) {
  if (const auto weight = param_of(model, node->input(1))) return weight->tensor.dim() - 2;
  const auto stride = constant_of(model, node->input(3));
  if (!stride || !stride->isIntList()) return 0;
  const auto length = static_cast<int64_t>(stride->toIntVector().size());
  return length > 1 ? length : 0;  // a single stride may stand for all dimensions
}

}  // namespace

// %y = aten::_convolution(%x, %w, %b, %stride, %padding, %dilation, %false, %output_padding, %groups, ...)
//   ->
// %y = aten::conv2d(%x, %w, %b, %stride, %padding, %dilation, %groups)
bool canonicalize_convolution(RewriteContext& ctx) {
  const auto convolutions = nodes_of_kind(ctx.model.graph()->block(), {"aten::_convolution", "aten::convolution"});
  if (convolutions.empty()) return false;
  const ParamScope scope(ctx.model);
  bool changed = false;
  for (Node* node : convolutions) {
    ctx.at(node);
    const auto transposed = constant_of(ctx.model, node->input(6));
    const int64_t dims = spatial_dims(ctx.model, node);
    if (!transposed || !transposed->isBool() || dims < 1 || dims > 3) continue;
    const auto in = node->inputs();
    const std::string suffix = std::to_string(dims) + "d";
    if (transposed->toBool()) {
      replace_node(node, "aten::conv_transpose" + suffix, {in[0], in[1], in[2], in[3], in[4], in[7], in[8], in[5]});
    } else {
      replace_node(node, "aten::conv" + suffix, {in[0], in[1], in[2], in[3], in[4], in[5], in[8]});
    }
    changed = true;
  }
  return changed;
}

}  // namespace tsquant

#include "lowering/engines/weighted_op.h"

#include <ATen/ATen.h>

#include "graph/node_lists.h"
#include "graph/params.h"
#include "lowering/reference_nodes.h"

namespace tsquant {

using torch::jit::Node;
using torch::jit::Value;

namespace {

/// The codes behind an activation that is quantized with parameters of its own at each call.
Value* dynamic_codes(const Model& model, const Value* value) {
  const Node* dequantize = value->node();
  if (!is_kind(dequantize, "aten::dequantize")) return nullptr;
  return read_dynamic_quantize(model, dequantize->input(0)->node()) ? const_cast<Value*>(dequantize->input(0))
                                                                    : nullptr;
}

/// Largest magnitude of the activation's codes over their scale, times the scale.
double largest_input(const LoweringContext& context, const WeightedOp& op) {
  constexpr double kCodes = 255;
  if (!op.is_dynamic) return kCodes * context.params_of(op.codes).scale;
  const auto number = context.original_of(op.codes->node()->input(0));
  const auto& tensors = context.reference().tensors;
  if (!number || *number >= tensors.size() || tensors[*number].empty()) return 1;
  return tensors[*number].front().abs().max().item<double>();
}

std::string check_weight(const WeightedOp& op) {
  const at::Tensor& w = op.weight;
  if (w.scalar_type() != at::kQInt8) return "its weight is not qint8";
  if (w.qscheme() == at::kPerTensorAffine) return w.q_zero_point() == 0 ? "" : "its weight has a zero point";
  if (w.qscheme() != at::kPerChannelAffine) return "its weight has an unknown quantization scheme";
  if (w.q_per_channel_zero_points().ne(0).any().item<bool>()) return "its weight has zero points";
  if (w.q_per_channel_axis() != op.geometry.output_axis())
    return "its weight is quantized along another axis than the output channels";
  return "";
}

/// A reason on failure.
std::string read_geometry(const WeightedLayer& layer, WeightedOp& op) {
  if (!layer.stride || !layer.dilation || !layer.layout()) return "its stride, dilation or groups are not constant";
  if (!layer.padding) return "its padding is not constant";
  if (!layer.output_padding) return "its output padding is not constant";
  const KernelGeometry& g = op.geometry = layer.geometry(op.weight.sizes()).value();
  for (size_t axis = 0; g.same && axis < g.spatial(); ++axis) {
    if (g.dilation[axis] * (g.kernel[axis] - 1) % 2 != 0) return "its \"same\" padding is not symmetric";
  }
  return "";
}

}  // namespace

at::Tensor quantized_weight(const Model& model, const Value* value, Node*& reader) {
  Node* dequantize = const_cast<Node*>(value->node());
  if (!is_kind(dequantize, "aten::dequantize")) return {};
  if (const auto folded = param_of(model, dequantize->input(0))) {
    reader = dequantize;
    return folded->tensor.is_quantized() ? folded->tensor : at::Tensor();
  }
  Node* quantize_node = dequantize->input(0)->node();
  const auto affine = read_quantize(model, quantize_node);
  if (!affine) return {};
  const auto parameter = param_of(model, affine->input);
  if (!parameter) return {};
  QParams q;
  q.scale = affine->per_channel ? affine->scales : at::full({1}, affine->scale, at::kFloat);
  q.zero_point = affine->per_channel ? affine->zero_points : at::full({1}, affine->zero_point, at::kLong);
  q.quant_min = affine->quant_min;
  q.quant_max = affine->quant_max;
  q.dtype = affine->dtype;
  q.per_channel = affine->per_channel;
  q.axis = affine->axis;
  reader = affine->input == quantize_node->input(0) ? quantize_node : quantize_node->input(0)->node();
  return make_quantized(quantize(parameter->tensor.detach(), q), q);
}

c10::optional<WeightedOp> read_weighted_op(LoweringContext& context, Node* node, std::string& reason) {
  const Model& model = context.model();
  const auto layer = weighted_layer(model, node);
  if (!layer) return c10::nullopt;
  WeightedOp op;
  op.node = node;
  op.codes = context.codes_of(node->input(WeightedLayer::kInput));
  if (op.codes == nullptr) {
    op.codes = dynamic_codes(model, node->input(WeightedLayer::kInput));
    op.is_dynamic = op.codes != nullptr;
  }
  op.weight = quantized_weight(model, node->input(WeightedLayer::kWeight), op.reader);
  if (!op.weight.defined()) {
    if (op.codes != nullptr) reason = "its weight is not quantized";
    return c10::nullopt;
  }
  if (op.codes == nullptr) {
    reason = "its input is not quantized";
    return c10::nullopt;
  }
  if (op.weight.dim() != static_cast<int64_t>(layer->spatial) + 2) {
    reason = "its weight has an unexpected shape";
    return c10::nullopt;
  }
  const auto bias = optional_param_of(model, node->input(WeightedLayer::kBias));
  if (!bias) {
    reason = "its bias is computed while the model runs";
    return c10::nullopt;
  }
  if (bias->defined()) op.bias = bias->detach().to(at::kFloat).contiguous();
  reason = read_geometry(*layer, op);
  if (reason.empty()) reason = check_weight(op);
  if (!reason.empty()) return c10::nullopt;
  return op;
}

Work WeightedOp::work(const LoweringContext& context) const {
  const int64_t channels = geometry.output_channels(weight.sizes());
  const at::Tensor real = weight.dequantize().abs();
  const double per_channel = static_cast<double>(weight.numel()) / static_cast<double>(std::max<int64_t>(channels, 1));
  Work work;
  work.multiply_adds = per_channel;
  work.depthwise = geometry.depthwise(weight.sizes());
  work.magnitude = weight.numel() == 0 ? 0 : largest_input(context, *this) * per_channel * real.max().item<double>();
  return work;
}

void remove_weighted_op(LoweringContext& context, const WeightedOp& op) {
  Model& model = context.model();
  const at::Tensor empty = at::empty({0});
  if (op.bias.defined()) set_param(model, op.node, WeightedLayer::kBias, empty);
  Node* weight = op.node->input(WeightedLayer::kWeight)->node();
  context.destroy(op.node);
  if (weight->hasUses()) return;
  set_param(model, op.reader, 0, empty);
  while (weight != op.reader) {
    Node* next = weight->input(0)->node();
    context.destroy(weight);
    weight = next;
  }
  context.destroy(weight);
}

}  // namespace tsquant

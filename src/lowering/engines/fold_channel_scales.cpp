#include <ATen/ATen.h>

#include "graph/names.h"
#include "graph/node_lists.h"
#include "graph/params.h"
#include "graph/weighted_layer.h"
#include "lowering/engines/lowering_context.h"
#include "lowering/reference_nodes.h"

namespace tsquant {

using torch::jit::Node;
using torch::jit::Value;

namespace {

bool is_convolution(const Node* node) { return layer_kind(node) == LayerKind::kConvolution; }

/// The folded weight of a convolution if its scales may be changed: symmetric qint8, output channels along axis 0.
at::Tensor scalable_weight(const Model& model, const Node* convolution) {
  const Node* dequantize = convolution->input(WeightedLayer::kWeight)->node();
  if (dequantize->kind() != c10::Symbol::fromQualString("aten::dequantize")) return {};
  if (dequantize->output()->uses().size() != 1) return {};
  const auto weight = param_of(model, dequantize->input(0));
  if (!weight || weight->tensor.scalar_type() != at::kQInt8) return {};
  const at::Tensor& w = weight->tensor;
  if (w.qscheme() == at::kPerTensorAffine) return w.q_zero_point() == 0 ? w : at::Tensor();
  const bool symmetric = !w.q_per_channel_zero_points().ne(0).any().item<bool>();
  return symmetric && w.q_per_channel_axis() == 0 ? w : at::Tensor();
}

void scale_weight(Model& model, Node* convolution, const at::Tensor& factors) {
  const at::Tensor w = scalable_weight(model, convolution);
  const at::Tensor old = w.qscheme() == at::kPerTensorAffine ? at::full({w.size(0)}, w.q_scale(), at::kDouble)
                                                             : w.q_per_channel_scales().to(at::kDouble);
  const at::Tensor scaled =
      at::_make_per_channel_quantized_tensor(w.int_repr(), old * factors, at::zeros({w.size(0)}, at::kLong), 0);
  set_param(model, convolution->input(WeightedLayer::kWeight)->node(), 0, scaled);
}

/// Depthwise convolutions that are the only readers of the quantized tensor; empty otherwise.
std::vector<Node*> depthwise_readers(const Model& model, const Node* quantize, int64_t channels) {
  std::vector<Node*> found;
  for (const auto& use : quantize->output()->uses()) {
    if (use.user->kind() != c10::Symbol::fromQualString("aten::dequantize")) return {};
    for (const auto& reader : use.user->output()->uses()) {
      if (!is_convolution(reader.user) || reader.offset != WeightedLayer::kInput) return {};
      const at::Tensor weight = scalable_weight(model, reader.user);
      // One filter per channel: output channel c sees input channel c only.
      if (!weight.defined() || weight.size(0) != channels || weight.size(1) != 1) return {};
      found.push_back(reader.user);
    }
  }
  return found;
}

/// The convolution whose result is rectified and then quantized, and what lies in between.
struct Producer {
  Node* convolution = nullptr;
  std::vector<Node*> clamps;  // last one first
  c10::optional<double> low, high;
};

c10::optional<Producer> producer_of(const Model& model, const Node* quantize) {
  Producer producer;
  Value* value = const_cast<Value*>(quantize->input(0));
  for (;;) {
    if (value->uses().size() != 1) return c10::nullopt;
    Node* node = value->node();
    if (is_convolution(node)) {
      producer.convolution = node;
      return producer;
    }
    // One activation at most: bounds of several would have to be composed.
    if (!producer.clamps.empty() || !clamp_bounds(model, node, producer.low, producer.high)) return c10::nullopt;
    producer.clamps.push_back(node);
    value = node->input(0);
  }
}

/// The bounds must survive the division by the channel's scale: only 0 below, and above at least the largest code.
bool bounds_allow_scaling(const Producer& producer, const AffineNode& q) {
  if (producer.low && *producer.low != 0) return false;
  if (!producer.high) return true;
  const int64_t zero_point = q.zero_points[0].item<int64_t>();
  const double largest = static_cast<double>(q.quant_max - zero_point) - 0.5;
  return *producer.high >= largest * q.scales.max().item<double>();
}

/// Moves the scales into the convolution above, rectifiers included. @return the input of the new quantizer; null when
/// something else stands above, or the bounds do not allow it
Value* scale_producer(LoweringContext& context, Node* quantize, const AffineNode& q) {
  Model& model = context.model();
  const auto producer = producer_of(model, quantize);
  if (!producer || !bounds_allow_scaling(*producer, q)) return nullptr;
  const at::Tensor weight = scalable_weight(model, producer->convolution);
  const auto bias = optional_param_of(model, producer->convolution->input(WeightedLayer::kBias));
  if (!weight.defined() || weight.size(0) != q.scales.numel() || !bias) return nullptr;
  const at::Tensor scales = q.scales.to(at::kDouble);
  scale_weight(model, producer->convolution, scales.reciprocal());
  if (bias->defined()) {
    set_bias(model, producer->convolution, (bias->detach().to(at::kDouble) / scales).to(at::kFloat));
  }
  if (!producer->high) return quantize->input(0);
  Value* input = producer->convolution->output();
  if (producer->low) input = context.insert(quantize, "aten::relu", {input}, producer->clamps[0]);
  quantize->replaceInput(0, input);
  producer->clamps[0]->destroy();
  return input;
}

// %q = quantize_per_channel(%x, S, z, 1)   ->   %m = aten::mul(%x, 1 / S); %q = quantize_per_tensor(%m, 1.0, z)
// LibTorch multiplies by the reciprocal, too: the codes are equal.
Value* scale_input(LoweringContext& context, Node* quantize, const AffineNode& q, int64_t spatial_dims) {
  std::vector<int64_t> shape(static_cast<size_t>(spatial_dims) + 1, 1);
  shape[0] = q.scales.numel();
  const at::Tensor factors = q.scales.to(at::kFloat).reciprocal().reshape(shape);
  return context.insert(quantize, "aten::mul", {quantize->input(0), context.constant(quantize, factors)}, nullptr);
}

// %c = aten::conv2d(%x, w, b); %r = relu6(%c); %q = quantize_per_channel(%r, S, z, 1); aten::conv2d(dequantize(%q), v)
//   ->
// %c = aten::conv2d(%x, w / S, b / S); %r = relu(%c); %q = quantize_per_tensor(%r, 1.0, z);
// aten::conv2d(dequantize(%q), v * S)
// The codes are the same, because a depthwise convolution does not mix channels.
bool fold_one(LoweringContext& context, Node* quantize) {
  Model& model = context.model();
  const auto q = read_quantize(model, quantize);
  if (!q || !q->per_channel || q->axis != 1 || q->input != quantize->input(0)) return false;
  if (q->zero_points.ne(q->zero_points[0]).any().item<bool>()) return false;
  const auto readers = depthwise_readers(model, quantize, q->scales.numel());
  if (readers.empty()) return false;
  const int64_t spatial_dims = scalable_weight(model, readers.front()).dim() - 2;
  Value* input = scale_producer(context, quantize, *q);
  if (input == nullptr) input = scale_input(context, quantize, *q, spatial_dims);
  for (Node* reader : readers) scale_weight(model, reader, q->scales.to(at::kDouble));
  const auto dtype = static_cast<int64_t>(q->dtype == c10::kByte ? c10::kQUInt8 : c10::kQInt8);
  Value* codes =
      context.insert(quantize, "aten::quantize_per_tensor",
                     {input, context.constant(quantize, 1.0),
                      context.constant(quantize, q->zero_points[0].item<int64_t>()), context.constant(quantize, dtype)},
                     nullptr);
  quantize->output()->replaceAllUsesWith(codes);
  quantize->destroy();
  context.declare_codes(codes->node());
  return true;
}

}  // namespace

// Activations of depthwise convolutions that are quantized per channel: the scales move into the weights on both
// sides, and one scale for the whole tensor remains.
bool fold_channel_scales(LoweringContext& context) {
  bool changed = false;
  for (Node* node : nodes_of_kind(context.graph().block(), {"aten::quantize_per_channel"})) {
    if (!param_of(context.model(), node->input(0))) changed |= fold_one(context, node);
  }
  return changed;
}

}  // namespace tsquant

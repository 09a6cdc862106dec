#include <ATen/ATen.h>

#include <algorithm>

#include "graph/node_lists.h"
#include "graph/params.h"
#include "graph/weighted_layer.h"
#include "passes/passes.h"
#include "tsquant/graph_view.h"

namespace tsquant {

namespace {

using torch::jit::Node;
using torch::jit::Value;

/// y = (x - mean) * deviation * gamma + beta per channel, with deviation = 1 / sqrt(var + eps).
struct Norm {
  at::Tensor mean, deviation, gamma, beta;

  at::Tensor scale() const { return gamma * deviation; }
  at::Tensor bias(const at::Tensor& bias) const { return (bias - mean) * deviation * gamma + beta; }
};

/// Rounding is part of what is quantized afterwards, so the arithmetic is that of fuse_conv_bn_weights
/// (torch/nn/utils/fusion.py), which torch.ao and NNCF call: in the type of the weights. Half types are too coarse.
c10::ScalarType folding_type(const at::Tensor& weight) {
  return weight.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
}

c10::optional<Norm> norm_of(const Model& model, const Node* node, c10::ScalarType type) {
  const auto training = constant_of(model, node->input(5)), eps = constant_of(model, node->input(7));
  const auto gamma = optional_param_of(model, node->input(1)), beta = optional_param_of(model, node->input(2));
  const auto mean = optional_param_of(model, node->input(3)), var = optional_param_of(model, node->input(4));
  if (!training || !training->isBool() || training->toBool() || !eps || !eps->isDouble()) return c10::nullopt;
  if (!gamma || !beta || !mean || !var || !mean->defined() || !var->defined()) return c10::nullopt;
  Norm norm;
  norm.mean = mean->to(type);
  norm.deviation = at::rsqrt(var->to(type) + eps->toDouble());
  norm.gamma = gamma->defined() ? gamma->to(type) : at::ones_like(norm.mean);
  norm.beta = beta->defined() ? beta->to(type) : at::zeros_like(norm.mean);
  if (!at::isfinite(norm.scale()).all().item<bool>() ||
      !at::isfinite(norm.bias(at::zeros_like(norm.mean))).all().item<bool>()) {
    return c10::nullopt;
  }
  return norm;
}

/// rows * scale in the type of the scale. A few rows at a time, so that no copy of a large weight in another type is
/// needed.
at::Tensor scale_rows(const at::Tensor& rows, const at::Tensor& scale) {
  constexpr int64_t kElementsAtATime = 1 << 16;
  auto result = at::empty(rows.sizes(), rows.options());
  const int64_t step = std::max<int64_t>(1, kElementsAtATime / std::max<int64_t>(1, rows.size(1)));
  for (int64_t row = 0; row < rows.size(0); row += step) {
    const int64_t count = std::min(step, rows.size(0) - row);
    const auto factors = scale.narrow(0, row, count).unsqueeze(1);
    result.narrow(0, row, count).copy_(rows.narrow(0, row, count).to(scale.scalar_type()) * factors);
  }
  return result;
}

/// The shapes that the sample gives, recorded when they are first asked for: folding does not change them.
class Shapes {
 public:
  explicit Shapes(const RewriteContext& ctx) : ctx_(ctx) {}

  /// Batch norm after a linear layer works on dimension 1, which is the features only for two-dimensional results.
  bool is_two_dimensional(const Value* value) {
    if (const auto type = value->type()->cast<c10::TensorType>()) {
      if (const auto dim = type->dim()) return *dim == 2;
    }
    if (!ctx_.sample) return false;
    if (!shapes_) shapes_ = record_shapes(ctx_.model, *ctx_.sample);
    const auto found = shapes_->find(value);
    return found != shapes_->end() && found->second.known && found->second.shape.size() == 2;
  }

 private:
  const RewriteContext& ctx_;
  c10::optional<ShapeTable> shapes_;
};

bool fold(RewriteContext& ctx, Shapes& shapes, Node* norm) {
  Node* node = norm->input(0)->node();
  const auto layer = weighted_layer(ctx.model, node);
  if (!layer || node->output()->uses().size() != 1 || node->owningBlock() != norm->owningBlock()) return false;
  const auto weight = optional_param_of(ctx.model, node->input(WeightedLayer::kWeight));
  const auto bias = optional_param_of(ctx.model, node->input(WeightedLayer::kBias));
  const auto layout = layer->layout();
  if (!weight || !weight->defined() || !bias || !layout) return false;
  const auto affine = norm_of(ctx.model, norm, folding_type(*weight));
  if (!affine || affine->mean.numel() != layout->output_channels(weight->sizes())) return false;
  if (layer->kind == LayerKind::kLinear && !shapes.is_two_dimensional(node->output())) return false;

  at::NoGradGuard no_grad;
  const auto old_bias = bias->defined() ? bias->to(folding_type(*weight)) : at::zeros_like(affine->mean);
  const auto new_bias = affine->bias(old_bias);
  const auto new_weight = layout->from_rows(scale_rows(layout->rows(*weight), affine->scale()), weight->sizes());
  set_param(ctx.model, node, WeightedLayer::kWeight, new_weight.contiguous());
  set_bias(ctx.model, node, new_bias.to(weight->scalar_type()).contiguous());
  norm->output()->replaceAllUsesWith(node->output());
  norm->destroy();
  return true;
}

}  // namespace

// %c = aten::conv2d(%x, %w, %b, ...); %y = aten::batch_norm(%c, %gamma, %beta, %mean, %var, %false, ...)
//   ->
// %y = aten::conv2d(%x, %w', %b', ...)   with w' = w * scale, b' = b * scale + shift
bool fold_batch_norm(RewriteContext& ctx) {
  const auto norms = nodes_of_kind(ctx.model.graph()->block(), {"aten::batch_norm"});
  if (norms.empty()) return false;
  const ParamScope scope(ctx.model);
  Shapes shapes(ctx);
  bool changed = false;
  for (Node* norm : norms) {
    ctx.at(norm);
    changed |= fold(ctx, shapes, norm);
  }
  return changed;
}

}  // namespace tsquant

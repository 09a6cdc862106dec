#include <algorithm>
#include <vector>

#include "graph/node_lists.h"
#include "graph/params.h"
#include "passes/passes.h"
#include "tsquant/graph_view.h"

namespace tsquant {

namespace {

using torch::jit::Node;
using torch::jit::Value;

bool is_linear(const Node* node) { return node->kind() == c10::aten::linear; }

bool is_transposed(const Node* node) {
  static const std::vector<c10::Symbol> kinds = {c10::aten::conv_transpose1d, c10::aten::conv_transpose2d,
                                                 c10::aten::conv_transpose3d};
  return std::find(kinds.begin(), kinds.end(), node->kind()) != kinds.end();
}

bool is_convolution(const Node* node) {
  static const std::vector<c10::Symbol> kinds = {c10::aten::conv1d, c10::aten::conv2d, c10::aten::conv3d};
  return is_transposed(node) || std::find(kinds.begin(), kinds.end(), node->kind()) != kinds.end();
}

/// y = x * scale + shift per channel, in double precision.
struct Affine {
  at::Tensor scale, shift;
};

/// A parameter; an undefined tensor for None; nullopt when the content is not fixed.
c10::optional<at::Tensor> optional_parameter(const Model& model, const Value* value) {
  const auto constant = constant_of(model, value);
  if (constant && constant->isNone()) return at::Tensor();
  const auto param = param_of(model, value);
  if (!param) return c10::nullopt;
  return param->tensor;
}

/// scale = gamma / sqrt(var + eps), shift = beta - mean * scale (fuse_conv_bn_weights of torch/nn/utils/fusion.py).
c10::optional<Affine> affine_of(const Model& model, const Node* norm) {
  const auto training = constant_of(model, norm->input(5)), eps = constant_of(model, norm->input(7));
  const auto gamma = optional_parameter(model, norm->input(1)), beta = optional_parameter(model, norm->input(2));
  const auto mean = optional_parameter(model, norm->input(3)), var = optional_parameter(model, norm->input(4));
  if (!training || !training->isBool() || training->toBool() || !eps || !eps->isDouble()) return c10::nullopt;
  if (!gamma || !beta || !mean || !var || !mean->defined() || !var->defined()) return c10::nullopt;
  Affine affine;
  affine.scale = at::rsqrt(var->to(at::kDouble) + eps->toDouble());
  if (gamma->defined()) affine.scale = affine.scale * gamma->to(at::kDouble);
  affine.shift = -mean->to(at::kDouble) * affine.scale;
  if (beta->defined()) affine.shift = affine.shift + beta->to(at::kDouble);
  if (!at::isfinite(affine.scale).all().item<bool>() || !at::isfinite(affine.shift).all().item<bool>()) {
    return c10::nullopt;
  }
  return affine;
}

/// weight * scale along dimension 0 in double precision. A few channels at a time, so that no copy of a large weight in
/// double precision is needed.
at::Tensor scale_rows(const at::Tensor& weight, const at::Tensor& scale) {
  constexpr int64_t kElementsAtATime = 1 << 16;
  auto result = at::empty(weight.sizes(), weight.options());
  const int64_t rows = weight.size(0), row_size = std::max<int64_t>(1, weight.numel() / std::max<int64_t>(1, rows));
  const int64_t step = std::max<int64_t>(1, kElementsAtATime / row_size);
  std::vector<int64_t> shape(static_cast<size_t>(weight.dim()), 1);
  shape[0] = -1;
  for (int64_t row = 0; row < rows; row += step) {
    const int64_t count = std::min(step, rows - row);
    const auto factors = scale.narrow(0, row, count).reshape(shape);
    result.narrow(0, row, count).copy_(weight.narrow(0, row, count).to(at::kDouble) * factors);
  }
  return result;
}

/// Multiplies the output channels of a weight. Those of a transposed convolution lie in dimension 1, group by group.
at::Tensor scale_outputs(const at::Tensor& weight, const at::Tensor& scale, bool transposed, int64_t groups) {
  if (!transposed) return scale_rows(weight, scale);
  const auto w = weight.to(at::kDouble);
  std::vector<int64_t> grouped{groups, w.size(0) / groups, w.size(1)};
  grouped.insert(grouped.end(), w.sizes().begin() + 2, w.sizes().end());
  std::vector<int64_t> factors(grouped.size(), 1);
  factors[0] = groups;
  factors[2] = w.size(1);
  return (w.reshape(grouped) * scale.reshape(factors)).reshape(w.sizes()).to(weight.scalar_type());
}

int64_t groups_of(const Model& model, const Node* conv) {
  if (is_linear(conv)) return 1;
  const auto groups = constant_of(model, conv->input(6));  // the same place in conv and conv_transpose
  return groups && groups->isInt() ? groups->toInt() : 0;
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

void set_bias(Model& model, Node* conv, const at::Tensor& bias) {
  if (!constant_of(model, conv->input(2))) {
    set_param(model, conv, 2, bias);
    return;
  }
  torch::jit::WithInsertPoint guard(conv);
  conv->replaceInput(2, model.graph()->insertConstant(bias));
}

bool fold(RewriteContext& ctx, Shapes& shapes, Node* norm) {
  Node* conv = norm->input(0)->node();
  if (!is_convolution(conv) && !is_linear(conv)) return false;
  if (conv->output()->uses().size() != 1 || conv->owningBlock() != norm->owningBlock()) return false;
  const auto weight = optional_parameter(ctx.model, conv->input(1));
  const auto bias = optional_parameter(ctx.model, conv->input(2));
  const auto affine = affine_of(ctx.model, norm);
  const int64_t groups = groups_of(ctx.model, conv);
  if (!weight || !weight->defined() || !bias || !affine || groups < 1) return false;
  const bool transposed = is_transposed(conv);
  const int64_t channels = transposed ? weight->size(1) * groups : weight->size(0);
  if (affine->scale.numel() != channels) return false;
  if (is_linear(conv) && !shapes.is_two_dimensional(conv->output())) return false;

  at::NoGradGuard no_grad;
  auto new_bias = bias->defined() ? affine->shift + bias->to(at::kDouble) * affine->scale : affine->shift;
  const auto new_weight = scale_outputs(*weight, affine->scale, transposed, groups);
  set_param(ctx.model, conv, 1, new_weight.contiguous());
  set_bias(ctx.model, conv, new_bias.to(weight->scalar_type()).contiguous());
  norm->output()->replaceAllUsesWith(conv->output());
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

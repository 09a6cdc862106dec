#include "lowering/engines/weighted_op.h"

#include <ATen/ATen.h>

#include "graph/params.h"
#include "lowering/reference_nodes.h"

namespace tsquant {

using torch::jit::Node;
using torch::jit::Value;

namespace {

bool is_kind(const Node* node, const char* kind) { return node->kind() == c10::Symbol::fromQualString(kind); }

c10::optional<std::vector<int64_t>> int_list(const Model& model, const Value* value, int64_t dims) {
  const auto constant = constant_of(model, value);
  if (!constant) return c10::nullopt;
  if (constant->isInt()) return std::vector<int64_t>(static_cast<size_t>(dims), constant->toInt());
  if (!constant->isIntList()) return c10::nullopt;
  auto list = constant->toIntVector();
  if (list.size() == 1) list.resize(static_cast<size_t>(dims), list[0]);
  if (static_cast<int64_t>(list.size()) != dims) return c10::nullopt;
  return list;
}

/// The quantized tensor behind a weight operand, folded or not, and the node that reads the parameter.
at::Tensor weight_of(const Model& model, const Value* value, Node*& reader) {
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

std::string check_weight(const WeightedOp& op) {
  const at::Tensor& w = op.weight;
  if (w.scalar_type() != at::kQInt8) return "its weight is not qint8";
  if (w.qscheme() == at::kPerTensorAffine) return w.q_zero_point() == 0 ? "" : "its weight has a zero point";
  if (w.qscheme() != at::kPerChannelAffine) return "its weight has an unknown quantization scheme";
  if (w.q_per_channel_zero_points().ne(0).any().item<bool>()) return "its weight has zero points";
  const int64_t channel_axis = op.transposed ? 1 : 0;
  if (w.q_per_channel_axis() != channel_axis)
    return "its weight is quantized along another axis than the output channels";
  return "";
}

/// stride, padding, dilation, groups of aten::conv*d and aten::conv_transpose*d; a reason on failure.
std::string read_geometry(const Model& model, WeightedOp& op) {
  const Node* node = op.node;
  const int64_t dims = op.spatial_dims();
  const size_t dilation_input = op.transposed ? 7 : 5, groups_input = 6;
  const auto stride = int_list(model, node->input(3), dims);
  const auto dilation = int_list(model, node->input(dilation_input), dims);
  const auto groups = constant_of(model, node->input(groups_input));
  if (!stride || !dilation || !groups || !groups->isInt()) return "its stride, dilation or groups are not constant";
  op.stride = *stride;
  op.dilation = *dilation;
  op.groups = groups->toInt();
  op.output_padding.assign(static_cast<size_t>(dims), 0);
  op.padding.assign(static_cast<size_t>(dims), 0);
  const auto padding = constant_of(model, node->input(4));
  if (padding && padding->isString()) {
    if (padding->toStringRef() == "valid") return "";
    for (int64_t i = 0; i < dims; ++i) {
      const auto at = static_cast<size_t>(i);
      const int64_t total = op.dilation[at] * (op.weight.size(i + 2) - 1);
      if (total % 2 != 0) return "its \"same\" padding is not symmetric";
      op.padding[at] = total / 2;
    }
    return "";
  }
  const auto sizes = int_list(model, node->input(4), dims);
  if (!sizes) return "its padding is not constant";
  op.padding = *sizes;
  if (!op.transposed) return "";
  const auto output_padding = int_list(model, node->input(5), dims);
  if (!output_padding) return "its output padding is not constant";
  op.output_padding = *output_padding;
  return "";
}

}  // namespace

const std::vector<std::string>& weighted_kinds() {
  static const std::vector<std::string> kinds = {
      "aten::linear",           "aten::conv1d",           "aten::conv2d",          "aten::conv3d",
      "aten::conv_transpose1d", "aten::conv_transpose2d", "aten::conv_transpose3d"};
  return kinds;
}

c10::optional<WeightedOp> read_weighted_op(LoweringContext& context, Node* node, std::string& reason) {
  const Model& model = context.model();
  WeightedOp op;
  op.node = node;
  op.linear = is_kind(node, "aten::linear");
  op.transposed = std::string(node->kind().toQualString()).rfind("aten::conv_transpose", 0) == 0;
  op.codes = context.codes_of(node->input(0));
  op.weight = weight_of(model, node->input(1), op.reader);
  if (!op.weight.defined()) {
    if (op.codes != nullptr) reason = "its weight is not quantized";
    return c10::nullopt;
  }
  if (op.codes == nullptr) {
    reason = "its input is not quantized";
    return c10::nullopt;
  }
  if (op.weight.dim() < 2 || (op.linear && op.weight.dim() != 2) || (!op.linear && op.weight.dim() < 3)) {
    reason = "its weight has an unexpected shape";
    return c10::nullopt;
  }
  const auto bias = constant_of(model, node->input(2));
  if (!(bias && bias->isNone())) {
    const auto parameter = param_of(model, node->input(2));
    if (!parameter) {
      reason = "its bias is computed while the model runs";
      return c10::nullopt;
    }
    op.bias = parameter->tensor.detach().to(at::kFloat).contiguous();
  }
  if (!op.linear) reason = read_geometry(model, op);
  if (reason.empty()) reason = check_weight(op);
  if (!reason.empty()) return c10::nullopt;
  return op;
}

Work WeightedOp::work(double in_scale) const {
  const int64_t channels = weight.size(transposed ? 1 : 0) * (transposed ? groups : 1);
  const at::Tensor real = weight.dequantize().abs();
  const double per_channel = static_cast<double>(weight.numel()) / static_cast<double>(std::max<int64_t>(channels, 1));
  Work work;
  work.multiply_adds = per_channel;
  work.depthwise = groups > 1 && groups == in_channels();
  work.magnitude = weight.numel() == 0 ? 0 : 255 * in_scale * per_channel * real.max().item<double>();
  return work;
}

void remove_weighted_op(LoweringContext& context, const WeightedOp& op) {
  Model& model = context.model();
  const at::Tensor empty = at::empty({0});
  if (op.bias.defined()) set_param(model, op.node, 2, empty);
  Node* weight = op.node->input(1)->node();
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

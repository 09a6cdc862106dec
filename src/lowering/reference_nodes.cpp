#include "lowering/reference_nodes.h"

#include <cmath>
#include <map>

#include "graph/insert_op.h"
#include "graph/names.h"
#include "graph/node_lists.h"
#include "graph/params.h"
#include "lowering/float_zero_points.h"

namespace tsquant {

namespace {

using torch::jit::Graph;
using torch::jit::Node;
using torch::jit::Value;

int64_t lowest(c10::ScalarType dtype) { return dtype == c10::kByte ? 0 : -128; }
int64_t highest(c10::ScalarType dtype) { return dtype == c10::kByte ? 255 : 127; }

bool uses_all_levels(const QParams& q) { return q.quant_min <= lowest(q.dtype) && q.quant_max >= highest(q.dtype); }

/// The float value of a level, one per channel.
at::Tensor level_value(const QParams& q, int64_t level) { return (level - q.zero_point) * q.scale.to(at::kDouble); }

Value* insert_clamp(Graph& graph, Value* x, const QParams& q, int64_t rank) {
  const auto bound = [&](int64_t level, int64_t limit) -> c10::IValue {
    if (level == limit && !q.per_channel) return c10::IValue();
    const auto value = level_value(q, level);
    if (!q.per_channel) return value.item<double>();
    std::vector<int64_t> shape(rank, 1);
    shape[q.axis] = -1;
    return value.to(at::kFloat).reshape(shape);
  };
  return insert_op(graph, "aten::clamp",
                   {x, graph.insertConstant(bound(q.quant_min, lowest(q.dtype))),
                    graph.insertConstant(bound(q.quant_max, highest(q.dtype)))});
}

/// The level that a bound of insert_clamp stands for; `limit` for None.
int64_t level_of(const c10::IValue& bound, const AffineNode& a, int64_t limit) {
  if (bound.isNone()) return limit;
  const double value = bound.isTensor() ? bound.toTensor().reshape(-1)[0].item<double>() : bound.toScalar().toDouble();
  const double scale = a.per_channel ? a.scales[0].item<double>() : a.scale;
  const int64_t zero_point = a.per_channel ? a.zero_points[0].item<int64_t>() : a.zero_point;
  return static_cast<int64_t>(std::nearbyint(value / scale)) + zero_point;
}

c10::ScalarType integer_type(int64_t quantized_type) {
  return static_cast<c10::ScalarType>(quantized_type) == c10::kQUInt8 ? c10::kByte : c10::kChar;
}

bool read_parameters(const Model& model, const Node* node, AffineNode& a) {
  const auto scale = constant_of(model, node->input(1)), zero_point = constant_of(model, node->input(2));
  const auto dtype = constant_of(model, node->inputs().back());
  if (!scale || !zero_point || !dtype || !dtype->isInt()) return false;
  a.dtype = integer_type(dtype->toInt());
  if (!a.per_channel) {
    if (!scale->isDouble() || !zero_point->isInt()) return false;
    a.scale = scale->toDouble();
    a.zero_point = zero_point->toInt();
    return true;
  }
  const auto axis = constant_of(model, node->input(3));
  if (!scale->isTensor() || !zero_point->isTensor() || !axis || !axis->isInt()) return false;
  a.scales = scale->toTensor().to(at::kFloat);
  a.zero_points = zero_point->toTensor().to(at::kLong);
  a.axis = axis->toInt();
  return true;
}

}  // namespace

bool can_insert_quantize(const QParams& q, int64_t rank) {
  return !is_libtorchs(q) || !q.per_channel || uses_all_levels(q) || rank > q.axis;
}

Value* insert_quantize(Graph& graph, Value* x, const QParams& q, int64_t rank) {
  if (!is_libtorchs(q)) {
    std::vector<Value*> inputs{x};
    for (Value* argument : dequantize_arguments(graph, q)) inputs.push_back(argument);
    return insert_op(graph, "tsquant::quantize_fp8", inputs);
  }
  const auto quantized_type = static_cast<int64_t>(q.dtype == c10::kByte ? c10::kQUInt8 : c10::kQInt8);
  if (q.is_dynamic) {
    return insert_op(graph, "aten::quantize_per_tensor_dynamic",
                     {x, graph.insertConstant(quantized_type), graph.insertConstant(!uses_all_levels(q))});
  }
  if (!uses_all_levels(q)) x = insert_clamp(graph, x, q, rank);
  if (!q.per_channel) {
    const std::vector<Value*> inputs{x, graph.insertConstant(q.scale.item<double>()),
                                     graph.insertConstant(q.zero_point.item<int64_t>()),
                                     graph.insertConstant(quantized_type)};
    return insert_op(graph, "aten::quantize_per_tensor", inputs);
  }
  const std::vector<Value*> inputs{x, graph.insertConstant(q.scale.to(at::kFloat).contiguous()),
                                   graph.insertConstant(q.zero_point.to(at::kLong).contiguous()),
                                   graph.insertConstant(q.axis), graph.insertConstant(quantized_type)};
  return insert_op(graph, "aten::quantize_per_channel", inputs);
}

std::string dequantize_kind(const QParams& q) {
  if (has_float_zero_points(q)) return "aten::to";
  return is_libtorchs(q) || q.dtype == c10::kHalf ? "aten::dequantize" : "tsquant::dequantize_fp8";
}

std::vector<Value*> dequantize_arguments(Graph& graph, const QParams& q) {
  if (is_libtorchs(q) || q.dtype == c10::kHalf) return {};
  if (has_float_zero_points(q)) return float_cast_arguments(graph);
  return {graph.insertConstant(q.scale), graph.insertConstant(q.per_channel ? c10::IValue(q.axis) : c10::IValue()),
          graph.insertConstant(to_string(q.format))};
}

Value* insert_dequantize(Graph& graph, Value* x, const QParams& q) {
  std::vector<Value*> inputs{x};
  for (Value* argument : dequantize_arguments(graph, q)) inputs.push_back(argument);
  return insert_op(graph, dequantize_kind(q).c_str(), inputs);
}

at::Tensor make_quantized(const at::Tensor& codes, const QParams& q) {
  at::NoGradGuard no_grad;
  if (!q.per_channel) {
    return at::_make_per_tensor_quantized_tensor(codes.contiguous(), q.scale.item<double>(),
                                                 q.zero_point.item<int64_t>());
  }
  return at::_make_per_channel_quantized_tensor(codes.contiguous(), q.scale.to(at::kDouble).contiguous(),
                                                q.zero_point.to(at::kLong).contiguous(), q.axis);
}

c10::optional<AffineNode> read_quantize(const Model& model, const Node* node) {
  AffineNode a;
  a.per_channel = node->kind() == c10::Symbol::fromQualString("aten::quantize_per_channel");
  if (!a.per_channel && node->kind() != c10::Symbol::fromQualString("aten::quantize_per_tensor")) return c10::nullopt;
  if (node->inputs().size() != (a.per_channel ? 5 : 4) || !read_parameters(model, node, a)) return c10::nullopt;
  a.input = const_cast<Value*>(node->input(0));
  a.quant_min = lowest(a.dtype);
  a.quant_max = highest(a.dtype);
  // An operator with a name is the model's own clamp.
  const Node* clamp = a.input->node();
  if (clamp->kind() != c10::aten::clamp || a.input->uses().size() != 1 || !names_of(clamp).name.empty()) return a;
  const auto low = constant_of(model, clamp->input(1)), high = constant_of(model, clamp->input(2));
  if (!low || !high) return a;
  a.input = const_cast<Value*>(clamp->input(0));
  a.quant_min = level_of(*low, a, a.quant_min);
  a.quant_max = level_of(*high, a, a.quant_max);
  return a;
}

c10::optional<DynamicNode> read_dynamic_quantize(const Model& model, const Node* node) {
  if (node->kind() != c10::Symbol::fromQualString("aten::quantize_per_tensor_dynamic")) return c10::nullopt;
  const auto dtype = constant_of(model, node->input(1)), reduce_range = constant_of(model, node->input(2));
  if (!dtype || !dtype->isInt() || !reduce_range || !reduce_range->isBool()) return c10::nullopt;
  DynamicNode found;
  found.input = const_cast<Value*>(node->input(0));
  found.dtype = integer_type(dtype->toInt());
  found.reduce_range = reduce_range->toBool();
  found.quant_min = lowest(found.dtype) / (found.reduce_range ? 2 : 1);
  found.quant_max = highest(found.dtype) / (found.reduce_range ? 2 : 1);
  return found;
}

AffineNode read_quantized(const at::Tensor& tensor) {
  AffineNode a;
  a.dtype = tensor.scalar_type() == c10::kQUInt8 ? c10::kByte : c10::kChar;
  a.quant_min = lowest(a.dtype);
  a.quant_max = highest(a.dtype);
  a.per_channel = tensor.qscheme() == c10::kPerChannelAffine;
  if (a.per_channel) {
    a.scales = tensor.q_per_channel_scales().to(at::kFloat);
    a.zero_points = tensor.q_per_channel_zero_points().to(at::kLong);
    a.axis = tensor.q_per_channel_axis();
  } else {
    a.scale = tensor.q_scale();
    a.zero_point = tensor.q_zero_point();
  }
  return a;
}

std::vector<QuantizedParameter> quantized_parameters(const Model& model) {
  const ParamScope scope(model);
  std::vector<QuantizedParameter> found;
  std::map<const c10::TensorImpl*, size_t> index;
  for (Node* node : nodes_of_kind(model.graph()->block(), {"aten::dequantize"})) {
    const auto parameter = param_of(model, node->input(0));
    if (!parameter || !parameter->tensor.is_quantized()) continue;
    const auto [place, is_new] = index.emplace(parameter->tensor.unsafeGetTensorImpl(), found.size());
    if (is_new) found.push_back({parameter->tensor, {}});
    found[place->second].uses.emplace_back(node, 0);
  }
  return found;
}

bool only_dequantized(const Node* node) {
  const auto& uses = node->output()->uses();
  return std::all_of(uses.begin(), uses.end(), [](const auto& use) { return is_kind(use.user, "aten::dequantize"); });
}

}  // namespace tsquant

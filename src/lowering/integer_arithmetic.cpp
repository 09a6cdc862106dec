#include "lowering/integer_arithmetic.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "graph/insert_op.h"

namespace tsquant {

using torch::jit::Graph;
using torch::jit::Node;
using torch::jit::Value;

namespace {

constexpr int64_t kLastAxis = -1;

Value* insert_plus(Graph& graph, Value* a, Value* b) {
  return insert_op(graph, "aten::add", {a, b, graph.insertConstant(int64_t{1})});
}

Value* insert_minus(Graph& graph, Value* a, Value* b) {
  return insert_op(graph, "aten::sub", {a, b, graph.insertConstant(int64_t{1})});
}

/// With the axis of the channels last, one value per channel broadcasts over a tensor of any rank.
Value* swap_with_last(Graph& graph, Value* x, int64_t axis) {
  return insert_op(graph, "aten::transpose", {x, graph.insertConstant(axis), graph.insertConstant(kLastAxis)});
}

/// A number that the graph computes.
Value* insert_number(Graph& graph, const char* kind, const std::vector<Value*>& inputs, const c10::TypePtr& type) {
  Value* number = insert_op(graph, kind, inputs);
  number->setType(type);
  return number;
}

Value* insert_saturate(Graph& graph, Value* x, int64_t low, int64_t high, c10::ScalarType dtype) {
  Value* clamped = insert_op(graph, "aten::clamp", {x, graph.insertConstant(low), graph.insertConstant(high)});
  return insert_cast(graph, clamped, dtype);
}

Value* insert_quantize_steps(Graph& graph, Value* x, Value* inverse_scale, Value* zero_point, const AffineNode& a) {
  Value* levels = insert_op(graph, "aten::round", {insert_op(graph, "aten::mul", {x, inverse_scale})});
  return insert_saturate(graph, insert_plus(graph, levels, zero_point), a.quant_min, a.quant_max, a.dtype);
}

}  // namespace

Value* insert_cast(Graph& graph, Value* x, c10::ScalarType dtype) {
  Value* no = graph.insertConstant(false);
  return insert_op(graph, "aten::to",
                   {x, graph.insertConstant(static_cast<int64_t>(dtype)), no, no, graph.insertConstant(c10::IValue())});
}

Value* insert_quantize_arithmetic(Graph& graph, const AffineNode& a, Value* x) {
  if (!a.per_channel) {
    return insert_quantize_steps(graph, x, graph.insertConstant(1.0 / a.scale), graph.insertConstant(a.zero_point), a);
  }
  Value* inverse_scales = graph.insertConstant(a.scales.to(at::kDouble).reciprocal().to(at::kFloat));
  Value* zero_points = graph.insertConstant(a.zero_points);
  return swap_with_last(
      graph, insert_quantize_steps(graph, swap_with_last(graph, x, a.axis), inverse_scales, zero_points, a), a.axis);
}

// LibTorch chooses unsigned codes; signed ones are the same minus 128 (minus 64 for half of the codes).
Codes insert_dynamic_quantize_arithmetic(Graph& graph, const DynamicNode& dynamic) {
  Node* choose = graph.insertNode(graph.create(c10::Symbol::fromQualString("aten::_choose_qparams_per_tensor"),
                                               {dynamic.input, graph.insertConstant(dynamic.reduce_range)}, 2));
  choose->output(0)->setType(c10::FloatType::get());
  choose->output(1)->setType(c10::IntType::get());
  Codes codes;
  codes.affine.quant_min = dynamic.quant_min;
  codes.affine.quant_max = dynamic.quant_max;
  codes.affine.dtype = dynamic.dtype;
  codes.dynamic_scale = choose->output(0);
  codes.dynamic_zero_point = insert_number(
      graph, "aten::add", {choose->output(1), graph.insertConstant(dynamic.quant_min)}, c10::IntType::get());
  Value* inverse_scale =
      insert_number(graph, "aten::div", {graph.insertConstant(1.0), codes.dynamic_scale}, c10::FloatType::get());
  codes.value = insert_quantize_steps(graph, dynamic.input, inverse_scale, codes.dynamic_zero_point, codes.affine);
  return codes;
}

Value* insert_dequantize_arithmetic(Graph& graph, const Codes& codes) {
  const AffineNode& a = codes.affine;
  if (!a.per_channel) {
    Value* zero_point = codes.is_dynamic() ? codes.dynamic_zero_point : graph.insertConstant(a.zero_point);
    Value* scale = codes.is_dynamic() ? codes.dynamic_scale : graph.insertConstant(a.scale);
    Value* centred = insert_minus(graph, insert_cast(graph, codes.value, at::kFloat), zero_point);
    return insert_op(graph, "aten::mul", {centred, scale});
  }
  Value* levels = insert_cast(graph, swap_with_last(graph, codes.value, a.axis), at::kFloat);
  Value* centred = insert_minus(graph, levels, graph.insertConstant(a.zero_points));
  return swap_with_last(graph, insert_op(graph, "aten::mul", {centred, graph.insertConstant(a.scales)}), a.axis);
}

Value* insert_centred(Graph& graph, const Codes& codes, at::IntArrayRef channels) {
  const AffineNode& a = codes.affine;
  Value* zero_point = codes.is_dynamic() ? codes.dynamic_zero_point
                      : a.per_channel    ? graph.insertConstant(a.zero_points.reshape(channels))
                                         : graph.insertConstant(a.zero_point);
  return insert_minus(graph, insert_cast(graph, codes.value, at::kLong), zero_point);
}

Value* insert_rescaled(Graph& graph, Value* x, Value* factor) {
  return insert_op(graph, "aten::round", {insert_op(graph, "aten::mul", {x, factor})});
}

Value* insert_codes(Graph& graph, Value* x, const AffineNode& out, bool relu) {
  const int64_t low = relu ? std::max(out.quant_min, out.zero_point) : out.quant_min;
  Value* shifted = insert_plus(graph, x, graph.insertConstant(out.zero_point));
  return insert_saturate(graph, shifted, low, out.quant_max, out.dtype);
}

}  // namespace tsquant

#include "lowering/float_zero_points.h"

#include <ATen/ATen.h>

#include "graph/insert_op.h"
#include "graph/node_lists.h"
#include "graph/params.h"

namespace tsquant {

namespace {

using torch::jit::Graph;
using torch::jit::Node;
using torch::jit::Value;

at::Tensor broadcast(const at::Tensor& parameters, int64_t axis, int64_t rank) {
  std::vector<int64_t> shape(rank, 1);
  shape[axis] = -1;
  return parameters.to(at::kFloat).reshape(shape).contiguous();
}

/// The codes behind a cast to float32; null for another node.
Value* cast_codes(const Model& model, const Node* node) {
  if (!is_kind(node, "aten::to") || node->inputs().size() != 5) return nullptr;
  const auto type = constant_of(model, node->input(1));
  const bool is_float = type && type->isInt() && type->toInt() == static_cast<int64_t>(at::kFloat);
  return is_float ? const_cast<Value*>(node->input(0)) : nullptr;
}

at::Tensor constant_tensor(const Model& model, const Value* value) {
  const auto constant = constant_of(model, value);
  return constant && constant->isTensor() ? constant->toTensor() : at::Tensor();
}

/// The axis over which scales of one per slice broadcast; -1 when they do not.
int64_t axis_of(const at::Tensor& scales, const at::Tensor& codes) {
  if (scales.dim() != codes.dim()) return -1;
  for (int64_t axis = 0; axis < codes.dim(); ++axis) {
    if (scales.size(axis) == codes.size(axis) && scales.numel() == codes.size(axis)) return axis;
  }
  return -1;
}

c10::optional<FloatZeroTable> read_table(const Model& model, Node* multiply) {
  if (!multiply->hasUses()) return c10::nullopt;
  FloatZeroTable table;
  table.last = multiply;
  const Node* subtract = multiply->input(0)->node();
  if (!is_kind(subtract, "aten::sub")) return c10::nullopt;
  table.codes = cast_codes(model, subtract->input(0)->node());
  table.scales = constant_tensor(model, multiply->input(1));
  table.zero_points = constant_tensor(model, subtract->input(1));
  const auto alpha = subtract->inputs().size() == 3 ? constant_of(model, subtract->input(2)) : c10::nullopt;
  const auto parameter = table.codes ? param_of(model, table.codes) : c10::nullopt;
  if (!parameter || !alpha || !alpha->isInt() || alpha->toInt() != 1) return c10::nullopt;
  table.tensor = parameter->tensor;
  for (const at::Tensor& parameters : {table.scales, table.zero_points}) {
    if (!parameters.defined() || parameters.scalar_type() != at::kFloat) return c10::nullopt;
  }
  table.axis = axis_of(table.scales, table.tensor);
  const bool fits = table.tensor.scalar_type() == at::kByte && table.axis >= 0;
  return fits && table.zero_points.sizes() == table.scales.sizes() ? c10::make_optional(table) : c10::nullopt;
}

}  // namespace

std::vector<Value*> float_cast_arguments(Graph& graph) {
  Value* no = graph.insertConstant(false);
  return {graph.insertConstant(static_cast<int64_t>(at::kFloat)), no, no, graph.insertConstant(c10::IValue())};
}

void insert_float_zero_points(Node* levels, const QParams& q, int64_t rank) {
  Graph& graph = *levels->owningGraph();
  const torch::jit::WithInsertPoint guard(levels->next());
  Value* zero_points = graph.insertConstant(broadcast(q.zero_point, q.axis, rank));
  Value* centred = insert_op(graph, "aten::sub", {levels->output(), zero_points, graph.insertConstant(int64_t{1})});
  Value* scales = graph.insertConstant(broadcast(q.scale, q.axis, rank));
  Value* weight = insert_op(graph, "aten::mul", {centred, scales});
  levels->output()->replaceAllUsesAfterNodeWith(weight->node(), weight);
}

AffineNode affine_of(const FloatZeroTable& table) {
  AffineNode a;
  a.per_channel = true;
  a.scales = table.scales.reshape({-1});
  a.zero_points = table.zero_points.reshape({-1});
  a.axis = table.axis;
  a.quant_min = 0;
  a.quant_max = 255;
  a.dtype = c10::kByte;
  return a;
}

std::vector<FloatZeroTable> float_zero_tables(const Model& model) {
  const ParamScope scope(model);
  std::vector<FloatZeroTable> found;
  for (Node* node : nodes_of_kind(model.graph()->block(), {"aten::mul"})) {
    if (const auto table = read_table(model, node)) found.push_back(*table);
  }
  return found;
}

}  // namespace tsquant

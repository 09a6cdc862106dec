#include "qdq_support.h"

#include <stdexcept>

#include "graph/node_lists.h"

namespace tsquant::testing {

QParams per_tensor(double scale, int64_t zero_point, c10::ScalarType dtype, int64_t quant_min, int64_t quant_max) {
  QParams q;
  q.scale = at::full({1}, scale, at::kFloat);
  q.zero_point = at::full({1}, zero_point, at::kLong);
  q.dtype = dtype;
  q.quant_min = quant_min;
  q.quant_max = quant_max;
  return q;
}

QParams per_channel(const at::Tensor& weight, int64_t axis, int64_t quant_max) {
  std::vector<int64_t> others;
  for (int64_t i = 0; i < weight.dim(); ++i) {
    if (i != axis) others.push_back(i);
  }
  QParams q;
  q.scale = (weight.abs().amax(others) / static_cast<double>(quant_max)).to(at::kFloat);
  q.zero_point = at::zeros({weight.size(axis)}, at::kLong);
  q.quant_min = -quant_max - 1;
  q.quant_max = quant_max;
  q.per_channel = true;
  q.axis = axis;
  return q;
}

Plan& Plan::add(PointKind kind, const std::string& node, int64_t port, const QParams& q) {
  QuantizationPoint point;
  point.id = static_cast<int64_t>(annotations.points.size()) + 1;
  point.kind = kind;
  point.node = node;
  if (port >= 0) point.input_port = port;
  annotations.points.push_back(point);
  qparams.emplace(point.id, q);
  return *this;
}

std::vector<Refusal> insert(Model& model, const Plan& plan, bool fold, const Sample* sample) {
  const auto shapes = sample ? record_shapes(model, *sample) : ShapeTable{};
  const GraphView view(model, shapes);
  std::vector<Refusal> refusals;
  insert_qdq(model, view, plan.annotations, plan.qparams, fold, refusals);
  model.graph()->lint();
  return refusals;
}

std::string only(const Model& model, const std::string& type) {
  const GraphView view(model);
  std::string name;
  for (const auto& node : view.nodes()) {
    if (node.kind != NodeKind::kOperator || node.type != type) continue;
    if (!name.empty()) throw std::runtime_error("several nodes " + type);
    name = node.name;
  }
  if (name.empty()) throw std::runtime_error("no node " + type);
  return name;
}

std::vector<std::string> operators(const Model& model) {
  std::vector<std::string> kinds;
  for (const auto* node : all_nodes(model.graph()->block())) {
    const std::string kind = node->kind().toUnqualString();
    if (kind != "Constant" && kind != "GetAttr" && kind != "ListConstruct") kinds.push_back(kind);
  }
  return kinds;
}

}  // namespace tsquant::testing

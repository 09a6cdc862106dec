#include "flows/float_biases.h"

#include <ATen/ATen.h>

#include "graph/op_table.h"
#include "graph/params.h"

namespace tsquant {

namespace {

/// The edge that carries the bias of an operator; null when it has none.
const ViewEdge* bias_edge(const GraphView& view, const std::string& name) {
  const ViewNode* node = view.find(name);
  if (!node || !node->op || node->op->bias_port < 0) return nullptr;
  return view.input_edge(*node, node->op->bias_port);
}

bool restore(Model& model, const GraphView& view, const Biases& before, const std::string& name) {
  const ViewEdge* edge = bias_edge(view, name);
  const auto bias = edge ? param_of(model, edge->value) : c10::nullopt;
  if (!bias) return false;
  const auto original = before.find(name);
  const at::Tensor value = original == before.end() ? at::zeros_like(bias->tensor) : original->second;
  if (value.is_same(bias->tensor)) return false;
  set_param(model, edge->use.user, edge->use.offset, value);
  return true;
}

}  // namespace

Biases read_biases(const Model& model, const GraphView& view, const Annotations& annotations) {
  const ParamScope scope(model);
  Biases biases;
  for (const auto& point : annotations.points) {
    if (point.kind != PointKind::kWeight) continue;
    const ViewEdge* edge = bias_edge(view, point.node);
    const auto bias = edge ? param_of(model, edge->value) : c10::nullopt;
    if (bias) biases[point.node] = bias->tensor;
  }
  return biases;
}

bool restore_biases(Model& model, const Biases& before, const std::set<std::string>& operators) {
  const GraphView view(model);
  const ParamScope scope(model);
  bool changed = false;
  for (const auto& name : operators) changed |= restore(model, view, before, name);
  return changed;
}

}  // namespace tsquant

#include "lowering/point_place.h"

#include <fmt/format.h>

#include "graph/params.h"
#include "tsquant/error.h"

namespace tsquant {

using torch::jit::Node;
using torch::jit::Use;
using torch::jit::Value;

namespace {

/// Not one that may be None.
bool holds_one_tensor(const Value* value) { return value->type()->isSubtypeOf(*c10::TensorType::get()); }

/// Before every use of a node's value: it is a parameter, or an argument that may be None, which a quantizer does not
/// take.
PointPlace place_before_uses(const GraphView& view, const ViewNode& node) {
  PointPlace place{nullptr, {}};
  for (const int64_t edge : node.out_edges) {
    const ViewEdge& reader = view.edge(edge);
    const bool reads = reader.use.user && holds_one_tensor(reader.use.user->input(reader.use.offset));
    if (node.kind != NodeKind::kParameter && !reads) continue;
    place.value = reader.value;
    place.uses.push_back(reader.use);
  }
  return place;
}

}  // namespace

PointPlace place_in_graph(const GraphView& view, const QuantizationPoint& point) {
  const ViewNode* node = view.find(point.node);
  if (!node) {
    throw Error(ErrorCode::kInvalidArgument, fmt::format("quantization point {}: no such node", point.id), point.node,
                fmt::format("the closest names are {}", fmt::join(view.nearest_names(point.node), ", ")));
  }
  if (!point.input_port) {
    const bool after = node->kind != NodeKind::kParameter && (!node->value || holds_one_tensor(node->value));
    return after ? PointPlace{node->value, {}} : place_before_uses(view, *node);
  }
  const ViewEdge* edge = view.input_edge(*node, *point.input_port);
  if (!edge) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("quantization point {}: no tensor argument {}", point.id, *point.input_port), point.node);
  }
  // One of several results of an operator has no use of its own in the graph: its quantizer stands after it.
  if (!edge->use.user) return {edge->value, {}};
  return {edge->value, {edge->use}};
}

c10::optional<Refusal> fault_of(const Model& model, const GraphView& view, const MutationAnalysis& mutation,
                                Value* value) {
  const ViewNode* producer = view.producer(value);
  const auto parameter = param_of(model, value);
  const bool integer = parameter ? !parameter->tensor.is_floating_point()
                                 : producer && producer->info.known && !producer->info.is_floating();
  if (integer) return Refusal{"", "not_floating", "the tensor does not hold floating-point numbers"};
  if (!parameter && mutation.is_written_later(value)) {
    return Refusal{"", "written_in_place", "the tensor is changed in place after it was produced"};
  }
  return c10::nullopt;
}

void refuse_point(const QuantizationPoint& point, const Refusal& fault, std::vector<Refusal>& refusals) {
  for (const auto& name : point.quantized_nodes) refusals.push_back({name, fault.code, fault.reason});
  if (point.quantized_nodes.empty()) refusals.push_back({point.node, fault.code, fault.reason});
}

Node* node_after(const Value* value) {
  Node* producer = const_cast<Node*>(value->node());
  return producer->kind() == c10::prim::Param ? *producer->owningBlock()->nodes().begin() : producer->next();
}

Node* node_before(const Value* value, const std::vector<Use>& uses) {
  Node* first = uses.front().user;
  for (const Use& use : uses) {
    if (use.user->owningBlock() != first->owningBlock()) return node_after(value);
    if (use.user->isBefore(first)) first = use.user;
  }
  return first;
}

}  // namespace tsquant

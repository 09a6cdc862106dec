#include "quantizers/openvino/view_adapter.h"

#include <fmt/format.h>

#include <algorithm>
#include <unordered_map>

#include "graph/weighted_layer.h"
#include "quantizers/openvino/node_roles.h"

namespace tsquant::openvino {

namespace {

PlacementKind kind_of(NodeKind kind) {
  switch (kind) {
    case NodeKind::kInput:
      return PlacementKind::kInput;
    case NodeKind::kParameter:
      return PlacementKind::kConstant;
    case NodeKind::kOutput:
      return PlacementKind::kOutput;
    case NodeKind::kOperator:
      break;
  }
  return PlacementKind::kOperator;
}

/// The edge into the tensor argument that holds the weight; null when there is none. The ports of the table are those
/// of the Python function; the scale of a normalisation is its second tensor in the graph.
const PlacementEdge* weight_edge(const PlacementGraph& graph, int node) {
  static const MetatypeSet kNorms{"LayerNorm", "GroupNorm", "BatchNorm"};
  const bool norm = kNorms.has(graph.nodes[node].metatype);
  const PlacementEdge* first = nullptr;
  for (int id : graph.in_edges(node)) {
    const PlacementEdge& edge = graph.edges[id];
    const bool second = edge.input_port == 1;
    if (norm ? !second || constant_above(graph, id) < 0 : !is_constant_weight(graph, id)) continue;
    if (second) return &edge;
    if (!first || edge.input_port < first->input_port) first = &edge;
  }
  return first;
}

/// Axis of the output channels of a weight (nncf/torch/model_graph_manager.py:get_weight_channel_axes).
int64_t weight_axis(const PlacementGraph& graph, const ViewNode& node, int port, size_t rank) {
  static const MetatypeSet kMatMul{"MatMul"}, kAddmm{"Addmm"};
  const LayerKind kind = layer_kind(node.node);
  if (kind != LayerKind::kNone) return WeightLayout{kind == LayerKind::kTransposedConvolution}.output_axis();
  const int metatype = graph.nodes[node.id].metatype;
  const bool left = (kMatMul.has(metatype) && port == 0) || (kAddmm.has(metatype) && port == 1);
  if (!left && !kMatMul.has(metatype) && !kAddmm.has(metatype)) return 0;
  if (rank < 2) return 0;
  return static_cast<int64_t>(rank) - (left ? 2 : 1);
}

QuantizationSpec make_spec(const QConfig& config) {
  QuantizationSpec spec;
  spec.format = integer_format(config.num_bits);
  spec.mode = config.mode;
  spec.signedness_to_force = config.signedness_to_force;
  spec.per_channel = config.per_channel;
  spec.narrow_range = config.narrow_range;
  return spec;
}

std::string reason_of(StopReason stop) {
  switch (stop) {
    case StopReason::kProducer:
      return "stands below the operator that computes the tensor";
    case StopReason::kIgnored:
      return "stands below an ignored operator";
    case StopReason::kOtherConsumer:
      return "stays on its branch: another consumer of the tensor stays in float";
    case StopReason::kModelOutput:
      return "stays on its branch: the tensor is also an output of the model";
    case StopReason::kOtherConfig:
      return "stays below a quantizer with other candidates";
    case StopReason::kBranchesDiffer:
      return "stays on its branch: the branches allow no common configuration";
    case StopReason::kInteger:
      return "stays below a tensor of integers";
    case StopReason::kMerged:
      return "serves all consumers of the tensor";
    case StopReason::kStart:
      break;
  }
  return "stands at the start of the graph";
}

Refusal refusal_of(Fate fate) {
  switch (fate) {
    case Fate::kIgnored:
      return {"", "ignored", "left in float by the ignored scope"};
    case Fate::kIgnoredPattern:
      return {"", "ignored_pattern", "part of a pattern that loses accuracy in integers"};
    case Fate::kIgnoredModelType:
      return {"", "ignored_model_type", "kept in float for transformers"};
    case Fate::kConstant:
      return {"", "constant", "computed from constants alone"};
    case Fate::kUnknown:
      return {"", "unknown_operator", "the operator table does not know it"};
    case Fate::kNotQuantizable:
      return {"", "not_quantizable", "the target device computes it in float"};
    case Fate::kConstantOperand:
      return {"", "constant_operand", "its other operand is a constant: it runs inside the operator before it"};
    case Fate::kNoInput:
      return {"", "no_quantizable_input", "none of its inputs can be quantized"};
    case Fate::kNone:
      break;
  }
  return {};
}

class Translator {
 public:
  Translator(const Placement& placement, const PlacementGraph& graph, const GraphView& view)
      : placement_(placement), graph_(graph), view_(view) {
    for (const auto& point : placement.setup.points) next_id_ = std::max<int64_t>(next_id_, point.id + 1);
  }

  Annotations run() {
    const auto& points = placement_.setup.points;
    result_.points.reserve(points.size());
    const IdTable by_node(view_.nodes().size(), points.size(), [&](int point) { return points[point].node; });
    for (int point : by_node.items()) {
      points[point].kind == PointKind::kWeight ? add_weight(points[point]) : add_activation(points[point]);
    }
    add_groups();
    add_refusals();
    return std::move(result_);
  }

 private:
  void add_refusals() {
    const auto& fates = placement_.fates;
    const auto silent = std::count(fates.begin(), fates.end(), Fate::kNone);
    size_t fused = 0;  // describe_fused adds at most these
    for (const auto& group : placement_.fused) fused += group.size() - 1;
    result_.refusals.reserve(fates.size() - static_cast<size_t>(silent) + fused);
    for (size_t i = 0; i < fates.size(); ++i) {
      if (fates[i] == Fate::kNone) continue;
      Refusal refusal = refusal_of(fates[i]);
      refusal.node = view_.node(static_cast<int64_t>(i)).name;
      result_.refusals.push_back(std::move(refusal));
    }
  }

  void fill(QuantizationPoint& result, const SetupPoint& point) const {
    result.id = point.id;
    result.kind = point.kind;
    result.node = view_.node(point.node).name;
    result.spec = make_spec(point.config());
    result.quantized_nodes.reserve(point.quantized_nodes.size());
    for (int node : point.quantized_nodes) result.quantized_nodes.push_back(view_.node(node).name);
  }

  void add_weight(const SetupPoint& point) {
    const PlacementEdge* edge = weight_edge(graph_, point.node);
    if (!edge) return;
    QuantizationPoint& result = result_.points.emplace_back();
    fill(result, point);
    result.input_port = edge->input_port;
    result.spec.ch_axis =
        weight_axis(graph_, view_.node(point.node), edge->input_port, edge->shape ? edge->shape->size() : 2);
    result.spec.half_range = placement_.half_range[point.node];
    result.reason = "weight of " + view_.node(point.node).type;
  }

  void add_activation(const SetupPoint& point) {
    QuantizationPoint& result = result_.points.emplace_back();
    fill(result, point);
    result.spec.ch_axis = 1;
    result.reason = reason_of(point.stop);
    if (point.port >= 0) result.input_port = point.port;
    // Operators with several results (aten::lstm, aten::split): their consumers get the quantizer instead.
    if (point.port < 0 && !graph_.nodes[point.node].gives_tensor) split(point);
  }

  /// Gives the point added last, which stands behind an operator with several results, to the readers of the results.
  void split(const SetupPoint& point) {
    const QuantizationPoint whole = std::move(result_.points.back());
    result_.points.pop_back();
    for (int64_t id : view_.node(point.node).out_edges) {
      const ViewEdge& edge = view_.edge(id);
      QuantizationPoint part = whole;
      if (!parts_[point.id].empty()) part.id = next_id_++;
      part.node = view_.node(edge.to).name;
      part.input_port = edge.input_port;
      parts_[point.id].push_back(part.id);
      result_.points.push_back(std::move(part));
    }
  }

  void add_groups() {
    if (placement_.setup.unified_groups.empty() && parts_.empty()) return;
    std::vector<bool> present(next_id_, false);
    for (const auto& point : result_.points) present[point.id] = true;
    for (const auto& group : placement_.setup.unified_groups) {
      std::vector<int64_t> ids;
      for (int id : group) {
        const auto parts = parts_.find(id);
        if (parts != parts_.end()) {
          ids.insert(ids.end(), parts->second.begin(), parts->second.end());
          parts_.erase(parts);
        } else if (present[id]) {
          ids.push_back(id);
        }
      }
      if (ids.size() > 1) result_.unified_scale_groups.push_back(std::move(ids));
    }
    for (const auto& point : placement_.setup.points) {
      const auto parts = parts_.find(point.id);
      if (parts != parts_.end() && parts->second.size() > 1) result_.unified_scale_groups.push_back(parts->second);
    }
  }

  const Placement& placement_;
  const PlacementGraph& graph_;
  const GraphView& view_;
  int64_t next_id_ = 1;
  std::unordered_map<int, std::vector<int64_t>> parts_;  ///< by point: the points that it was split into
  Annotations result_;
};

}  // namespace

PlacementGraph make_placement_graph(const GraphView& view) {
  PlacementGraph graph;
  const auto taken = taken_from_inputs(view);
  static const int kInputNoop = metatype_index("PTInputNoopMetatype");
  const auto is_tensor = [](const torch::jit::Value* value) {
    return value->type()->isSubtypeOf(*c10::TensorType::get());
  };
  graph.nodes.reserve(view.nodes().size());
  for (const auto& node : view.nodes()) {
    const bool passed = taken[node.id] && is_tensor(node.value);
    graph.add_node(passed ? PlacementKind::kInput : kind_of(node.kind), &node.name,
                   passed ? kInputNoop : metatype_index(placement_row(node)));
    graph.nodes.back().gives_tensor = node.value && is_tensor(node.value);
  }
  graph.edges.reserve(view.edges().size());
  for (const auto& edge : view.edges()) {
    if (graph.nodes[edge.to].kind == PlacementKind::kInput) continue;
    const int id = graph.add_edge(static_cast<int>(edge.from), static_cast<int>(edge.to),
                                  static_cast<int>(edge.input_port), static_cast<int>(edge.output_port));
    if (edge.info.known) graph.edges[id].shape = &edge.info.shape;
    // Quantizers stand on tensors only: a container (dictionary, list, optional) stops them like integers do.
    // Most edges carry the result of their producer; asking its type again would fetch it from memory again.
    const bool own = edge.value == view.node(edge.from).value;
    graph.edges[id].integer = !(own ? graph.nodes[edge.from].gives_tensor : is_tensor(edge.value));
  }
  return graph;
}

Annotations make_annotations(const Placement& placement, const PlacementGraph& graph, const GraphView& view) {
  return Translator(placement, graph, view).run();
}

}  // namespace tsquant::openvino

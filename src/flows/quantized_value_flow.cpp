#include "flows/quantized_value_flow.h"

#include "graph/op_table.h"

namespace tsquant {

namespace {

std::vector<int64_t> edges_of(const GraphView& view, const ViewNode& node, const QuantizationPoint& point) {
  if (!point.input_port) return node.out_edges;
  const ViewEdge* edge = view.input_edge(node, *point.input_port);
  return edge ? std::vector<int64_t>{edge - view.edges().data()} : std::vector<int64_t>{};
}

/// Branches, tuples and lists hand tensors on. What a loop hands on after its first turn is not part of the view.
bool hands_on(const ViewNode& node) {
  return node.node && node.node->kind().is_prim() && node.node->kind() != c10::prim::Loop;
}

bool only_moves(const ViewNode& node) {
  const auto trait = node.op->default_trait;
  if (node.info.known && !node.info.is_floating()) return false;
  return trait == QuantizationTrait::kQuantizationAgnostic || trait == QuantizationTrait::kConcat || hands_on(node);
}

/// Conditions, masks and indices decide where values go, but are not moved themselves.
bool is_moved(const ViewNode& node, const ViewEdge& edge) {
  if (edge.info.known && !edge.info.is_floating()) return false;
  if (node.type == "where") return edge.input_port != 0;
  static const std::string kGather = "PTGatherMetatype", kScatter = "PTScatterMetatype";
  if (node.op->metatype == kGather) return edge.input_port == 0;
  if (node.op->metatype == kScatter) return edge.input_port != 1;
  return true;
}

}  // namespace

QuantizedValueFlow::QuantizedValueFlow(const GraphView& view, const Annotations& annotations)
    : quantizers_(view.edges().size(), -1),
      quantized_(view.edges().size(), false),
      movements_(view.nodes().size(), Movement::kComputes) {
  std::unordered_map<int64_t, int64_t> root;
  for (const auto& group : annotations.unified_scale_groups) {
    for (const int64_t id : group) root[id] = group.front();
  }
  // A quantizer before an argument sees the tensor after the one that stands behind the producer.
  for (const bool before_argument : {false, true}) {
    for (const auto& point : annotations.points) {
      const ViewNode* node = view.find(point.node);
      if (!node || point.input_port.has_value() != before_argument) continue;
      const auto shared = root.find(point.id);
      for (const int64_t edge : edges_of(view, *node, point)) {
        quantizers_[edge] = shared == root.end() ? point.id : shared->second;
        quantized_[edge] = true;
      }
    }
  }
  for (const auto& node : view.nodes()) {
    if (node.kind != NodeKind::kOperator || !only_moves(node)) continue;
    int64_t quantizer = -1;
    movements_[node.id] = move(view, node, quantizer);
    for (const int64_t edge : node.out_edges) {
      if (!quantized_[edge]) quantizers_[edge] = quantizer;
    }
  }
}

Movement QuantizedValueFlow::move(const GraphView& view, const ViewNode& node, int64_t& quantizer) const {
  Movement movement = Movement::kComputes;
  for (const int64_t id : node.in_edges) {
    if (!is_moved(node, view.edge(id))) continue;
    const int64_t here = quantizers_[id];
    if (here < 0) {
      quantizer = -1;
      return Movement::kFloat;
    }
    if (movement == Movement::kComputes) {
      quantizer = here;
      movement = Movement::kCodes;
    } else if (here != quantizer) {
      movement = Movement::kMixed;
    }
  }
  if (movement == Movement::kMixed) quantizer = -1;
  return movement;
}

}  // namespace tsquant

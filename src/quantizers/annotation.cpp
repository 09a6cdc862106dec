#include "tsquant/annotation.h"

#include <fmt/format.h>

#include <algorithm>

#include "tsquant/error.h"
#include "tsquant/graph_view.h"

namespace tsquant {

bool operator==(const QuantizationSpec& a, const QuantizationSpec& b) {
  return a.num_bits == b.num_bits && a.mode == b.mode && a.signedness_to_force == b.signedness_to_force &&
         a.per_channel == b.per_channel && a.ch_axis == b.ch_axis && a.narrow_range == b.narrow_range &&
         a.half_range == b.half_range && a.dtype == b.dtype && a.quant_min == b.quant_min &&
         a.quant_max == b.quant_max && a.eps == b.eps && a.observer == b.observer && a.fixed_scale == b.fixed_scale &&
         a.fixed_zero_point == b.fixed_zero_point && a.destination_type == b.destination_type;
}

const QuantizationPoint* Annotations::find(int64_t id) const {
  const auto found = std::find_if(points.begin(), points.end(), [id](const auto& point) { return point.id == id; });
  return found == points.end() ? nullptr : &*found;
}

namespace {

const ViewNode& node_of(const GraphView& view, const std::string& name, const std::string& place) {
  const ViewNode* node = view.find(name);
  if (node) return *node;
  throw Error(ErrorCode::kInvalidArgument, fmt::format("the graph has no node \"{}\"", name), place,
              fmt::format("closest: {}", fmt::join(view.nearest_names(name), ", ")));
}

/// Adds points of one node with fresh ids.
class PointAdder {
 public:
  PointAdder(Annotations& annotations, const GraphView& view, const ViewNode& node)
      : annotations_(annotations), view_(view), node_(node) {
    for (const auto& point : annotations.points) next_id_ = std::max(next_id_, point.id + 1);
  }

  int64_t add_input(int64_t port, const QuantizationSpec& spec) {
    const ViewEdge* edge = view_.input_edge(node_, port);
    if (!edge) {
      throw Error(ErrorCode::kInvalidArgument, fmt::format("the node has no tensor argument {}", port), node_.name,
                  fmt::format("it has {}", node_.in_edges.size()));
    }
    const bool weight = view_.node(edge->from).kind == NodeKind::kParameter;
    return add(weight ? PointKind::kWeight : PointKind::kActivation, port, spec);
  }

  int64_t add_output(const QuantizationSpec& spec) { return add(PointKind::kActivation, c10::nullopt, spec); }

  /// The point that a shared spec names.
  const QuantizationPoint& root_of(const SharedQuantizationSpec& shared) const {
    const ViewNode& producer = node_of(view_, shared.producer, node_.name);
    const ViewNode* consumer = shared.consumer.empty() ? nullptr : &node_of(view_, shared.consumer, node_.name);
    for (const auto& point : annotations_.points) {
      if (!consumer && point.node == producer.name && !point.input_port) return point;
      if (!consumer || point.node != consumer->name || !point.input_port) continue;
      const ViewEdge* edge = view_.input_edge(*consumer, *point.input_port);
      if (edge && edge->from == producer.id) return point;
    }
    throw Error(ErrorCode::kInvalidArgument,
                consumer ? fmt::format("a shared spec names the edge from {} to {}, which is not annotated",
                                       producer.name, consumer->name)
                         : fmt::format("a shared spec names the result of {}, which is not annotated", producer.name),
                node_.name, "annotate the root before the nodes that share its quantizer");
  }

  void join(int64_t root, int64_t member) {
    for (auto& group : annotations_.unified_scale_groups) {
      if (std::find(group.begin(), group.end(), root) == group.end()) continue;
      group.push_back(member);
      return;
    }
    annotations_.unified_scale_groups.push_back({root, member});
  }

 private:
  int64_t add(PointKind kind, c10::optional<int64_t> port, const QuantizationSpec& spec) {
    QuantizationPoint point;
    point.id = next_id_++;
    point.kind = kind;
    point.node = node_.name;
    point.input_port = port;
    point.spec = spec;
    point.quantized_nodes = {node_.name};
    point.reason = "annotated by the quantizer";
    annotations_.points.push_back(std::move(point));
    return annotations_.points.back().id;
  }

  Annotations& annotations_;
  const GraphView& view_;
  const ViewNode& node_;
  int64_t next_id_ = 1;
};

}  // namespace

void annotate_node(Annotations& annotations, const GraphView& view, const std::string& node,
                   const QuantizationAnnotation& annotation) {
  PointAdder adder(annotations, view, node_of(view, node, node));
  for (const auto& [port, spec] : annotation.input_qspec_map) adder.add_input(port, spec);
  for (const auto& [port, shared] : annotation.shared_input_map) {
    const auto root = adder.root_of(shared);
    adder.join(root.id, adder.add_input(port, root.spec));
  }
  if (annotation.output_qspec) adder.add_output(*annotation.output_qspec);
  if (annotation.shared_output) {
    const auto root = adder.root_of(*annotation.shared_output);
    adder.join(root.id, adder.add_output(root.spec));
  }
}

}  // namespace tsquant

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

void annotate_node(Annotations& annotations, const GraphView& view, const std::string& node,
                   const QuantizationAnnotation& annotation) {
  const ViewNode* place = view.find(node);
  if (!place) {
    throw Error(ErrorCode::kInvalidArgument, "the graph has no such node", node,
                fmt::format("closest: {}", fmt::join(view.nearest_names(node), ", ")));
  }
  int64_t next_id = 1;
  for (const auto& point : annotations.points) next_id = std::max(next_id, point.id + 1);
  QuantizationPoint point;
  point.node = place->name;
  point.quantized_nodes = {place->name};
  point.reason = "annotated by the quantizer";
  for (const auto& [port, spec] : annotation.input_qspec_map) {
    const ViewEdge* edge = view.input_edge(*place, port);
    if (!edge) {
      throw Error(ErrorCode::kInvalidArgument, fmt::format("the node has no tensor argument {}", port), node,
                  fmt::format("it has {}", place->in_edges.size()));
    }
    point.id = next_id++;
    point.kind = view.node(edge->from).kind == NodeKind::kParameter ? PointKind::kWeight : PointKind::kActivation;
    point.input_port = port;
    point.spec = spec;
    annotations.points.push_back(point);
  }
  if (!annotation.output_qspec) return;
  point.id = next_id++;
  point.kind = PointKind::kActivation;
  point.input_port = c10::nullopt;
  point.spec = *annotation.output_qspec;
  annotations.points.push_back(std::move(point));
}

}  // namespace tsquant

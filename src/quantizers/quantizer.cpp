#include "tsquant/quantizer.h"

#include <fmt/format.h>

#include <unordered_map>
#include <unordered_set>

#include "tsquant/error.h"

namespace tsquant {

namespace {

[[noreturn]] void refuse(const std::string& message, const std::string& place, const std::string& advice = "") {
  throw Error(ErrorCode::kInvalidArgument, message, place, advice);
}

void check_place(const GraphView& view, const QuantizationPoint& point) {
  const ViewNode* node = view.find(point.node);
  if (!node) {
    refuse("a quantization point names a node that the graph does not have", point.node,
           fmt::format("closest: {}", fmt::join(view.nearest_names(point.node), ", ")));
  }
  if (!point.input_port) {
    if (point.kind == PointKind::kWeight) refuse("a weight point needs an input port", point.node);
    return;
  }
  const ViewEdge* edge = view.input_edge(*node, *point.input_port);
  if (!edge) {
    refuse(fmt::format("a quantization point names tensor argument {}", *point.input_port), point.node,
           fmt::format("the node has {}", node->in_edges.size()));
  }
}

using PointsById = std::unordered_map<int64_t, const QuantizationPoint*>;

void check_groups(const Annotations& annotations, const PointsById& by_id) {
  std::unordered_set<int64_t> grouped;
  for (const auto& group : annotations.unified_scale_groups) {
    const QuantizationPoint* first = nullptr;
    for (int64_t id : group) {
      const auto found = by_id.find(id);
      if (found == by_id.end()) refuse(fmt::format("a unified group names point {}, which does not exist", id), "");
      if (!grouped.insert(id).second) {
        refuse(fmt::format("point {} is twice in the unified groups", id), found->second->node, "join its groups");
      }
      if (!first) first = found->second;
      if (!(first->spec == found->second->spec)) {
        refuse(fmt::format("points {} and {} share one scale, but their specs differ", first->id, id),
               found->second->node);
      }
    }
  }
}

}  // namespace

void Quantizer::validate(const GraphView& view, const Annotations& annotations) const {
  PointsById by_id;
  std::unordered_set<std::string> places;
  for (const auto& point : annotations.points) {
    check_place(view, point);
    check_spec(point.spec, point.kind, point.node);
    if (!by_id.emplace(point.id, &point).second) refuse(fmt::format("two points have the id {}", point.id), point.node);
    const std::string place = fmt::format("{}:{}", view.find(point.node)->id, point.input_port.value_or(-1));
    if (!places.insert(place).second) refuse("two quantization points stand at one place", point.node);
  }
  check_groups(annotations, by_id);
}

}  // namespace tsquant

#include "tsquant/annotation.h"

#include <fmt/format.h>

#include <algorithm>

#include "quantizers/annotation_index.h"
#include "tsquant/error.h"
#include "tsquant/graph_view.h"

namespace tsquant {

const QuantizationPoint* Annotations::find(int64_t id) const {
  // Right for ascending ids; a hit proves itself.
  auto found = std::lower_bound(points.begin(), points.end(), id,
                                [](const auto& point, int64_t wanted) { return point.id < wanted; });
  if (found != points.end() && found->id == id) return &*found;
  found = std::find_if(points.begin(), points.end(), [id](const auto& point) { return point.id == id; });
  return found == points.end() ? nullptr : &*found;
}

AnnotationIndex::AnnotationIndex() = default;
AnnotationIndex::AnnotationIndex(const AnnotationIndex&) {}
AnnotationIndex::AnnotationIndex(AnnotationIndex&&) noexcept = default;
AnnotationIndex& AnnotationIndex::operator=(const AnnotationIndex& other) {
  if (this != &other) tables_.reset();
  return *this;
}
AnnotationIndex& AnnotationIndex::operator=(AnnotationIndex&&) noexcept = default;
AnnotationIndex::~AnnotationIndex() = default;

namespace {

const ViewNode& node_of(const GraphView& view, const std::string& name, const std::string& place) {
  const ViewNode* node = view.find(name);
  if (node) return *node;
  throw Error(ErrorCode::kInvalidArgument, fmt::format("the graph has no node \"{}\"", name), place,
              fmt::format("closest: {}", fmt::join(view.nearest_names(name), ", ")));
}

}  // namespace

/// Adds points of one node with fresh ids.
class PointAdder {
 public:
  PointAdder(Annotations& annotations, const GraphView& view, const ViewNode& node)
      : annotations_(annotations), view_(view), node_(node) {
    auto& tables = annotations.index.tables_;
    if (!tables) tables = std::make_unique<AnnotationIndex::Tables>();
    index_ = tables.get();
    index_->update(annotations_);
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

  /// Id and spec of the point that a shared spec names.
  std::pair<int64_t, QuantizationSpec> root_of(const SharedQuantizationSpec& shared) const {
    const ViewNode& producer = node_of(view_, shared.producer, node_.name);
    const ViewNode* consumer = shared.consumer.empty() ? nullptr : &node_of(view_, shared.consumer, node_.name);
    const auto fits = [&](const QuantizationPoint& point) {
      if (!consumer || !point.input_port) return !consumer && !point.input_port;
      const ViewEdge* edge = view_.input_edge(*consumer, *point.input_port);
      return edge && edge->from == producer.id;
    };
    const auto* root = index_->find_at((consumer ? *consumer : producer).name, annotations_.points, fits);
    if (root) return {root->id, root->spec};
    throw Error(ErrorCode::kInvalidArgument,
                consumer ? fmt::format("a shared spec names the edge from {} to {}, which is not annotated",
                                       producer.name, consumer->name)
                         : fmt::format("a shared spec names the result of {}, which is not annotated", producer.name),
                node_.name, "annotate the root before the nodes that share its quantizer");
  }

  void join(int64_t root, int64_t member) {
    auto& groups = annotations_.unified_scale_groups;
    const auto group = index_->group_with(root, groups);
    if (group == groups.size()) {
      groups.push_back({root, member});
    } else {
      groups[group].push_back(member);
      index_->group_of[member] = group;
    }
    index_->update(annotations_);
  }

 private:
  int64_t add(PointKind kind, c10::optional<int64_t> port, const QuantizationSpec& spec) {
    QuantizationPoint point;
    point.id = index_->next_id;
    point.kind = kind;
    point.node = node_.name;
    point.input_port = port;
    point.spec = spec;
    point.quantized_nodes.push_back(node_.name);
    point.reason = "annotated";
    annotations_.points.push_back(std::move(point));
    index_->update(annotations_);
    return annotations_.points.back().id;
  }

  Annotations& annotations_;
  const GraphView& view_;
  const ViewNode& node_;
  AnnotationIndex::Tables* index_;
};

void annotate_node(Annotations& annotations, const GraphView& view, const std::string& node,
                   const QuantizationAnnotation& annotation) {
  PointAdder adder(annotations, view, node_of(view, node, node));
  for (const auto& [port, spec] : annotation.input_qspec_map) adder.add_input(port, spec);
  for (const auto& [port, shared] : annotation.shared_input_map) {
    const auto [root, spec] = adder.root_of(shared);
    adder.join(root, adder.add_input(port, spec));
  }
  if (annotation.output_qspec) adder.add_output(*annotation.output_qspec);
  if (annotation.shared_output) {
    const auto [root, spec] = adder.root_of(*annotation.shared_output);
    adder.join(root, adder.add_output(spec));
  }
}

void remove_points(Annotations& annotations, const std::set<int64_t>& ids) {
  const auto is_removed = [&](int64_t id) { return ids.count(id) > 0; };
  auto& points = annotations.points;
  points.erase(std::remove_if(points.begin(), points.end(), [&](const auto& point) { return is_removed(point.id); }),
               points.end());
  for (auto& group : annotations.unified_scale_groups) {
    group.erase(std::remove_if(group.begin(), group.end(), is_removed), group.end());
  }
}

void remove_operators(Annotations& annotations, const std::set<std::string>& names) {
  std::set<int64_t> unasked;
  for (auto& point : annotations.points) {
    auto& nodes = point.quantized_nodes;
    const auto kept =
        std::remove_if(nodes.begin(), nodes.end(), [&](const std::string& name) { return names.count(name) > 0; });
    if (kept == nodes.begin() && !nodes.empty()) unasked.insert(point.id);
    nodes.erase(kept, nodes.end());
  }
  remove_points(annotations, unasked);
}

}  // namespace tsquant

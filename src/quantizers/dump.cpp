#include "quantizers/dump.h"

#include <fmt/format.h>

#include "quantizers/spec_text.h"

namespace tsquant {

namespace {

constexpr const char* kPlainColour = "black";
constexpr const char* kQuantizedColour = "green4";
constexpr const char* kGroupColours[] = {"blue", "orange", "purple", "brown", "deeppink", "cyan4"};
constexpr const char* kFloatColour = "lightgrey";
constexpr const char* kWeightColour = "steelblue";

/// The quantizer of every edge.
class QuantizedEdges {
 public:
  QuantizedEdges(const GraphView& view, const Annotations* annotations)
      : points_(view.edges().size(), nullptr), groups_(view.edges().size(), -1) {
    if (!annotations) return;
    std::unordered_map<int64_t, int64_t> group_of;
    for (size_t g = 0; g < annotations->unified_scale_groups.size(); ++g) {
      for (const int64_t id : annotations->unified_scale_groups[g]) group_of[id] = static_cast<int64_t>(g);
    }
    for (const QuantizationPoint& point : annotations->points) {
      const ViewNode* node = view.find(point.node);
      if (!node) continue;
      const auto group = group_of.find(point.id);
      for (const int64_t edge : edges_of(view, *node, point)) {
        points_[edge] = &point;
        groups_[edge] = group == group_of.end() ? -1 : group->second;
      }
    }
  }

  const QuantizationPoint* point(int64_t edge) const { return points_[edge]; }
  int64_t group(int64_t edge) const { return groups_[edge]; }

 private:
  static std::vector<int64_t> edges_of(const GraphView& view, const ViewNode& node, const QuantizationPoint& point) {
    if (!point.input_port) return node.out_edges;
    const ViewEdge* edge = view.input_edge(node, *point.input_port);
    return edge ? std::vector<int64_t>{node.in_edges[*point.input_port]} : std::vector<int64_t>{};
  }

  std::vector<const QuantizationPoint*> points_;
  std::vector<int64_t> groups_;
};

std::string shape_of(const TensorInfo& info) {
  return info.known ? fmt::format("{}[{}]", c10::toString(info.dtype), fmt::join(info.shape, ",")) : "?";
}

/// "#2 8 bits symmetric, group 2"
std::string describe(const QuantizationPoint& point, int64_t group) {
  const std::string text = fmt::format("#{} {}", point.id, spec_text(point.spec));
  return group < 0 ? text : text + fmt::format(", group {}", group);
}

std::string dot_string(const std::string& text) {
  std::string result = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') result += '\\';
    result += c == '\n' ? std::string("\\n") : std::string(1, c);
  }
  return result + "\"";
}

bool is_float_island(const QuantizedEdges& quantized, const ViewNode& node) {
  if (node.kind != NodeKind::kOperator) return false;
  for (const int64_t edge : node.in_edges) {
    if (quantized.point(edge)) return false;
  }
  for (const int64_t edge : node.out_edges) {
    if (quantized.point(edge)) return false;
  }
  return true;
}

std::string edge_colour(const QuantizedEdges& quantized, int64_t edge) {
  if (!quantized.point(edge)) return kPlainColour;
  const int64_t group = quantized.group(edge);
  return group < 0 ? kQuantizedColour : kGroupColours[group % std::size(kGroupColours)];
}

const QuantizationPoint* weight_of(const GraphView& view, const QuantizedEdges& quantized, const ViewNode& node) {
  for (const int64_t edge : node.in_edges) {
    const auto* point = quantized.point(edge);
    if (point && point->kind == PointKind::kWeight && view.edge(edge).to == node.id) return point;
  }
  return nullptr;
}

/// The attributes of a node: what it is, its shape, the codes of its weight.
std::string node_attributes(const GraphView& view, const QuantizedEdges& quantized, const ViewNode& node, bool any) {
  const QuantizationPoint* weight = weight_of(view, quantized, node);
  std::string label = node.name + "\n" + shape_of(node.info), style;
  if (weight) {
    label += "\nweight " + describe(*weight, -1);
    style = fmt::format(", color={}, penwidth=2", kWeightColour);
  }
  if (node.kind != NodeKind::kOperator) style += ", shape=ellipse";
  if (any && is_float_island(quantized, node)) style += fmt::format(", fillcolor={}", kFloatColour);
  return "label=" + dot_string(label) + style;
}

/// A frame with one example of each colour.
std::string legend() {
  std::string text =
      "  subgraph cluster_legend {\n    label=\"legend\"; fontsize=12; node [fontsize=10]; edge [fontsize=10];\n";
  text += fmt::format("    legend_float [label=\"computes in float\", fillcolor={}];\n", kFloatColour);
  text += fmt::format("    legend_weight [label=\"quantized weight\", color={}, penwidth=2];\n", kWeightColour);
  const auto edge = [&text](const char* name, const char* colour, const char* label) {
    text += fmt::format("    legend_{0}_a [label=\"\", shape=point]; legend_{0}_b [label=\"\", shape=point];\n", name);
    text += fmt::format("    legend_{0}_a -> legend_{0}_b [color={1}, label=\"{2}\"];\n", name, colour, label);
  };
  edge("quantized", kQuantizedColour, "quantized");
  edge("group", kGroupColours[0], "shares its parameters (one colour per group)");
  edge("plain", kPlainColour, "not quantized");
  return text + "  }\n";
}

}  // namespace

std::string dump_dot(const GraphView& view, const Annotations* annotations, bool parameters) {
  const QuantizedEdges quantized(view, annotations);
  const auto is_shown = [&](const ViewNode& node) { return parameters || node.kind != NodeKind::kParameter; };
  std::string text = "digraph model {\n  node [shape=box, style=filled, fillcolor=white];\n";
  const bool any = annotations && !annotations->points.empty();
  if (any) text += legend();
  for (const ViewNode& node : view.nodes()) {
    if (is_shown(node)) text += fmt::format("  n{} [{}];\n", node.id, node_attributes(view, quantized, node, any));
  }
  for (size_t i = 0; i < view.edges().size(); ++i) {
    const auto id = static_cast<int64_t>(i);
    const ViewEdge& edge = view.edge(id);
    if (!is_shown(view.node(edge.from))) continue;
    const auto* point = quantized.point(id);
    text += fmt::format("  n{} -> n{} [color={}{}];\n", edge.from, edge.to, edge_colour(quantized, id),
                        point ? ", label=" + dot_string(describe(*point, quantized.group(id))) : "");
  }
  return text + "}\n";
}

}  // namespace tsquant

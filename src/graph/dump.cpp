#include "graph/dump.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "graph/op_table.h"

namespace tsquant {

namespace {

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

const char* kind_of(NodeKind kind) {
  switch (kind) {
    case NodeKind::kInput:
      return "input";
    case NodeKind::kParameter:
      return "parameter";
    case NodeKind::kOperator:
      return "operator";
    case NodeKind::kOutput:
      return "output";
  }
  return "operator";
}

/// "8 bits symmetric per channel, group 2"
std::string describe(const QuantizationPoint& point, int64_t group) {
  const QuantizationSpec& spec = point.spec;
  std::string text = fmt::format("#{} {} bits {}{}", point.id, spec.num_bits,
                                 spec.mode == QuantizationMode::kSymmetric ? "symmetric" : "asymmetric",
                                 spec.per_channel ? " per channel" : "");
  return group < 0 ? text : text + fmt::format(", group {}", group);
}

std::string quoted(const std::string& text) {
  std::string result = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') result += '\\';
    result += c == '\n' ? std::string("\\n") : std::string(1, c);
  }
  return result + "\"";
}

bool is_float_island(const GraphView& view, const QuantizedEdges& quantized, const ViewNode& node) {
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
  static const char* const group_colours[] = {"blue", "orange", "purple", "brown", "deeppink", "cyan4"};
  if (!quantized.point(edge)) return "black";
  const int64_t group = quantized.group(edge);
  return group < 0 ? "green4" : group_colours[group % 6];
}

}  // namespace

std::string dump_text(const GraphView& view, const Annotations* annotations) {
  const QuantizedEdges quantized(view, annotations);
  std::string text;
  for (const ViewNode& node : view.nodes()) {
    text += node.name;
    if (node.fx_name != node.name) text += " (" + node.fx_name + ")";
    text += fmt::format(": {} {}", node.op->metatype, shape_of(node.info));
    for (const int64_t id : node.in_edges) {
      const ViewEdge& edge = view.edge(id);
      text += fmt::format("\n    {} <- {}", edge.input_port, view.node(edge.from).name);
      if (edge.output_port != 0) text += fmt::format(":{}", edge.output_port);
      if (const auto* point = quantized.point(id)) text += " {" + describe(*point, quantized.group(id)) + "}";
    }
    text += "\n";
  }
  return text;
}

std::string dump_json(const GraphView& view, const Annotations* annotations) {
  using nlohmann::ordered_json;
  const QuantizedEdges quantized(view, annotations);
  ordered_json nodes = ordered_json::array(), edges = ordered_json::array();
  for (const ViewNode& node : view.nodes()) {
    ordered_json entry = {{"id", node.id},           {"kind", kind_of(node.kind)}, {"name", node.name},
                          {"fx_name", node.fx_name}, {"type", node.type},          {"metatype", node.op->metatype}};
    if (node.info.known) {
      entry["shape"] = node.info.shape;
      entry["dtype"] = c10::toString(node.info.dtype);
    }
    nodes.push_back(std::move(entry));
  }
  for (size_t id = 0; id < view.edges().size(); ++id) {
    const ViewEdge& edge = view.edges()[id];
    ordered_json entry = {{"producer", view.node(edge.from).name},
                          {"consumer", view.node(edge.to).name},
                          {"output_port", edge.output_port},
                          {"input_port", edge.input_port}};
    if (const auto* point = quantized.point(static_cast<int64_t>(id))) {
      const int64_t group = quantized.group(static_cast<int64_t>(id));
      entry["quantizer"] = point->id;
      entry["unified_scale_group"] = group < 0 ? ordered_json(nullptr) : ordered_json(group);
    }
    edges.push_back(std::move(entry));
  }
  return ordered_json({{"nodes", std::move(nodes)}, {"edges", std::move(edges)}}).dump(1);
}

std::string dump_dot(const GraphView& view, const Annotations* annotations, bool parameters) {
  const QuantizedEdges quantized(view, annotations);
  const auto is_shown = [&](const ViewNode& node) { return parameters || node.kind != NodeKind::kParameter; };
  std::string text = "digraph model {\n  node [shape=box, style=filled, fillcolor=white];\n";
  for (const ViewNode& node : view.nodes()) {
    if (!is_shown(node)) continue;
    const bool is_float = annotations && !annotations->points.empty() && is_float_island(view, quantized, node);
    text += fmt::format("  n{} [label={}{}];\n", node.id, quoted(node.name + "\n" + shape_of(node.info)),
                        is_float                           ? ", fillcolor=lightgrey"
                        : node.kind == NodeKind::kOperator ? ""
                                                           : ", shape=ellipse");
  }
  for (size_t i = 0; i < view.edges().size(); ++i) {
    const auto id = static_cast<int64_t>(i);
    const ViewEdge& edge = view.edge(id);
    if (!is_shown(view.node(edge.from))) continue;
    const auto* point = quantized.point(id);
    text += fmt::format("  n{} -> n{} [color={}{}];\n", edge.from, edge.to, edge_colour(quantized, id),
                        point ? ", label=" + quoted(describe(*point, quantized.group(id))) : "");
  }
  return text + "}\n";
}

}  // namespace tsquant

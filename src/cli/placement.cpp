#include "cli/placement.h"

#include <nlohmann/json.hpp>

#include "cli/quantizer_choice.h"
#include "flows/build_report.h"
#include "graph/op_table.h"
#include "passes/passes.h"

namespace tsquant::cli {

namespace {

using nlohmann::ordered_json;

/// Returned values are ports of one consumer named `output`, in their order.
class OutputPorts {
 public:
  explicit OutputPorts(const GraphView& view) {
    for (const auto& node : view.nodes()) {
      if (node.kind == NodeKind::kOutput) first_port_.emplace(node.id, static_cast<int64_t>(first_port_.size()));
    }
  }
  int64_t port(const ViewEdge& edge) const {
    return first_port_.size() > 1 ? first_port_.at(edge.to) : edge.input_port;
  }

 private:
  std::unordered_map<int64_t, int64_t> first_port_;
};

ordered_json edge_json(const GraphView& view, const OutputPorts& outputs, const ViewEdge& edge, int64_t quantizer) {
  const auto& consumer = view.node(edge.to);
  const bool is_output = consumer.kind == NodeKind::kOutput;
  return {{"producer", view.node(edge.from).name},
          {"consumer", is_output ? "output" : consumer.name},
          {"input_port", is_output ? outputs.port(edge) : edge.input_port},
          {"quantizer", quantizer}};
}

ordered_json edges_json(const GraphView& view, const Annotations& annotations) {
  const OutputPorts outputs(view);
  ordered_json edges = ordered_json::array();
  for (const auto& point : annotations.points) {
    const ViewNode* node = view.find(point.node);
    if (!node) continue;
    if (point.input_port) {
      const ViewEdge* edge = view.input_edge(*node, *point.input_port);
      if (edge) edges.push_back(edge_json(view, outputs, *edge, point.id));
    } else {
      for (int64_t id : node->out_edges) edges.push_back(edge_json(view, outputs, view.edge(id), point.id));
    }
  }
  return edges;
}

ordered_json quantizers_json(const Annotations& annotations) {
  std::unordered_map<int64_t, int64_t> groups;
  for (size_t i = 0; i < annotations.unified_scale_groups.size(); ++i) {
    for (int64_t id : annotations.unified_scale_groups[i]) groups[id] = static_cast<int64_t>(i);
  }
  ordered_json quantizers = ordered_json::array();
  for (const auto& point : annotations.points) {
    ordered_json json{{"id", point.id},
                      {"kind", point.kind == PointKind::kWeight ? "weight" : "activation"},
                      {"num_bits", point.spec.num_bits},
                      {"mode", point.spec.mode == QuantizationMode::kSymmetric ? "symmetric" : "asymmetric"},
                      {"signedness_to_force", nullptr},
                      {"per_channel", point.spec.per_channel},
                      {"narrow_range", point.spec.narrow_range},
                      {"unified_scale_group", nullptr}};
    if (point.spec.signedness_to_force) json["signedness_to_force"] = *point.spec.signedness_to_force;
    if (point.spec.dtype) json["dtype"] = c10::toString(*point.spec.dtype);
    if (point.spec.quant_min) json["quant_min"] = *point.spec.quant_min;
    if (point.spec.quant_max) json["quant_max"] = *point.spec.quant_max;
    const auto group = groups.find(point.id);
    if (group != groups.end()) json["unified_scale_group"] = group->second;
    quantizers.push_back(std::move(json));
  }
  return quantizers;
}

}  // namespace

Placement place(const std::string& path, const QuantizerArgs& args, const Sample* sample) {
  Placement result;
  const auto quantizer = make_quantizer(args);
  result.model = std::make_unique<Model>(Model::load(path));
  PipelineOptions pipeline;
  pipeline.skip = args.skip_passes;
  run_passes(*result.model, pipeline);
  quantizer->transform_for_annotation(*result.model);
  const ShapeTable shapes = sample ? record_shapes(*result.model, *sample) : ShapeTable{};
  result.view = std::make_unique<GraphView>(*result.model, shapes);
  result.annotations = quantizer->annotate(*result.view);
  quantizer->validate(*result.view, result.annotations);
  describe_nodes(result.report, *result.view, result.annotations);
  return result;
}

std::string placement_json(const Placement& placement) {
  const GraphView& view = *placement.view;
  ordered_json nodes = ordered_json::array();
  for (const auto& node : view.nodes()) {
    if (node.kind != NodeKind::kOperator) continue;
    nodes.push_back(
        {{"name", node.name}, {"fx_name", node.fx_name}, {"type", node.type}, {"metatype", node.op->metatype}});
  }
  return ordered_json{{"nodes", nodes},
                      {"edges", edges_json(view, placement.annotations)},
                      {"quantizers", quantizers_json(placement.annotations)}}
      .dump(1);
}

}  // namespace tsquant::cli

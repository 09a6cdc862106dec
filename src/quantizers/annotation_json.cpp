#include <nlohmann/json.hpp>

#include <map>

#include "graph/op_table.h"
#include "tsquant/annotation.h"
#include "tsquant/graph_view.h"

namespace tsquant {

namespace {

using Json = nlohmann::ordered_json;

template <typename T>
Json or_null(const c10::optional<T>& value) {
  return value ? Json(*value) : Json(nullptr);
}

const char* kind_of(NodeKind kind) {
  switch (kind) {
    case NodeKind::kInput:
      return "input";
    case NodeKind::kParameter:
      return "parameter";
    case NodeKind::kOutput:
      return "output";
    case NodeKind::kOperator:
      break;
  }
  return "operator";
}

const char* name_of(ObserverKind kind) {
  switch (kind) {
    case ObserverKind::kMinMax:
      return "min_max";
    case ObserverKind::kPerChannelMinMax:
      return "per_channel_min_max";
    case ObserverKind::kMovingAverageMinMax:
      return "moving_average_min_max";
    case ObserverKind::kMovingAveragePerChannelMinMax:
      return "moving_average_per_channel_min_max";
    case ObserverKind::kHistogram:
      return "histogram";
    case ObserverKind::kDefault:
      break;
  }
  return "default";
}

Json node_json(const ViewNode& node) {
  return {{"name", node.name},
          {"fx_name", node.fx_name},
          {"kind", kind_of(node.kind)},
          {"type", node.type},
          {"metatype", node.op->metatype}};
}

Json quantizer_json(const QuantizationPoint& point, int64_t group) {
  Json json;
  json["id"] = point.id;
  json["kind"] = point.kind == PointKind::kWeight ? "weight" : "activation";
  json["node"] = point.node;
  json["input_port"] = or_null(point.input_port);
  const FormatInfo& format = format_info(point.spec.format);
  json["num_bits"] = format.bits;
  json["mode"] = point.spec.mode == QuantizationScheme::kSymmetric ? "symmetric" : "asymmetric";
  json["signedness_to_force"] = or_null(point.spec.signedness_to_force);
  json["per_channel"] = point.spec.per_channel;
  json["ch_axis"] = point.spec.ch_axis;
  json["narrow_range"] = point.spec.narrow_range;
  json["half_range"] = point.spec.half_range;
  if (!format.integer) json["destination_type"] = format.name;
  if (point.spec.group_size > 0) {
    json["group_size"] = point.spec.group_size;
    json["group_axis"] = point.spec.group_axis;
  }
  if (!point.spec.codebook.empty()) json["codebook"] = point.spec.codebook;
  if (point.spec.formula == QParamsFormula::kTorchAo) json["formula"] = "torch_ao";
  if (point.spec.quant_min) json["quant_min"] = *point.spec.quant_min;
  if (point.spec.quant_max) json["quant_max"] = *point.spec.quant_max;
  if (point.spec.dtype) json["dtype"] = c10::toString(*point.spec.dtype);
  if (point.spec.observer != ObserverKind::kDefault) json["observer"] = name_of(point.spec.observer);
  if (point.spec.is_dynamic) json["is_dynamic"] = true;
  if (point.spec.float_zero_point) json["float_zero_point"] = true;
  if (point.spec.limits_of_observer) json["limits_of_observer"] = true;
  if (point.spec.fixed_scale) json["fixed_scale"] = *point.spec.fixed_scale;
  if (point.spec.fixed_zero_point) json["fixed_zero_point"] = *point.spec.fixed_zero_point;
  json["unified_scale_group"] = group < 0 ? Json(nullptr) : Json(group);
  json["quantized_nodes"] = point.quantized_nodes;
  json["reason"] = point.reason;
  return json;
}

Json edge_json(const GraphView& view, const ViewEdge& edge, int64_t quantizer) {
  Json json;
  json["producer"] = view.node(edge.from).name;
  json["consumer"] = view.node(edge.to).name;
  json["input_port"] = edge.input_port;
  json["quantizer"] = quantizer;
  return json;
}

/// A quantizer before an argument wins over the one after the producer, because it sees the tensor last.
std::map<int64_t, int64_t> quantizer_of_edges(const Annotations& annotations, const GraphView& view) {
  std::map<int64_t, int64_t> quantizers;
  for (const bool before_argument : {false, true}) {
    for (const auto& point : annotations.points) {
      const ViewNode* node = view.find(point.node);
      if (!node || point.input_port.has_value() != before_argument) continue;
      if (before_argument) {
        const ViewEdge* edge = view.input_edge(*node, *point.input_port);
        if (edge) quantizers[edge - view.edges().data()] = point.id;
      } else {
        for (int64_t edge : node->out_edges) quantizers[edge] = point.id;
      }
    }
  }
  return quantizers;
}

}  // namespace

std::string to_json(const Annotations& annotations, const GraphView& view) {
  std::map<int64_t, int64_t> group_of;
  for (size_t i = 0; i < annotations.unified_scale_groups.size(); ++i) {
    for (int64_t id : annotations.unified_scale_groups[i]) group_of[id] = static_cast<int64_t>(i);
  }
  Json json;
  json["nodes"] = Json::array();
  for (const auto& node : view.nodes()) json["nodes"].push_back(node_json(node));
  json["quantizers"] = Json::array();
  for (const auto& point : annotations.points) {
    const auto group = group_of.find(point.id);
    json["quantizers"].push_back(quantizer_json(point, group == group_of.end() ? -1 : group->second));
  }
  json["edges"] = Json::array();
  for (const auto& [edge, quantizer] : quantizer_of_edges(annotations, view)) {
    json["edges"].push_back(edge_json(view, view.edge(edge), quantizer));
  }
  json["unified_scale_groups"] = annotations.unified_scale_groups;
  json["refusals"] = Json::array();
  for (const auto& refusal : annotations.refusals) {
    json["refusals"].push_back(Json{{"node", refusal.node}, {"code", refusal.code}, {"reason", refusal.reason}});
  }
  return json.dump(1);
}

}  // namespace tsquant

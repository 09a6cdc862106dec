// Annotations in the form of PyTorch 2 export quantization. Source of the qspec fields: nncf OpenVINOQuantizer.annotate
// (experimental/torch/fx/quantization/quantizer/openvino_quantizer.py).
#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <unordered_map>

#include "tsquant/annotation.h"
#include "tsquant/graph_view.h"

namespace tsquant {

namespace {

using Json = nlohmann::ordered_json;

/// Position of a point: its node, then its argument; the result comes last.
std::pair<int64_t, int64_t> position_of(const QuantizationPoint& point, const GraphView& view) {
  constexpr int64_t kResult = 1 << 20;
  return {view.find(point.node)->id, point.input_port.value_or(kResult)};
}

SharedQuantizationSpec place_of(const QuantizationPoint& point, const GraphView& view) {
  if (!point.input_port) return {point.node, ""};
  const ViewEdge* edge = view.input_edge(*view.find(point.node), *point.input_port);
  return {view.node(edge->from).name, point.node};
}

/// By point id: the earliest member of its unified group, for all other members.
std::unordered_map<int64_t, SharedQuantizationSpec> roots_of(const Annotations& annotations, const GraphView& view) {
  std::unordered_map<int64_t, SharedQuantizationSpec> roots;
  std::unordered_map<int64_t, const QuantizationPoint*> by_id;
  if (!annotations.unified_scale_groups.empty()) {
    for (const auto& point : annotations.points) by_id.emplace(point.id, &point);
  }
  for (const auto& group : annotations.unified_scale_groups) {
    const QuantizationPoint* root = nullptr;
    for (const int64_t id : group) {
      const auto found = by_id.find(id);
      if (found == by_id.end()) continue;
      const auto* point = found->second;
      if (!root || position_of(*point, view) < position_of(*root, view)) root = point;
    }
    for (const int64_t id : group) {
      if (root && id != root->id) roots[id] = place_of(*root, view);
    }
  }
  return roots;
}

const char* observer_name(const QuantizationSpec& spec, PointKind kind) {
  switch (spec.observer) {
    case ObserverKind::kDefault:
      if (spec.per_channel) return "PerChannelMinMaxObserver";
      return kind == PointKind::kWeight ? "MinMaxObserver" : "HistogramObserver";
    case ObserverKind::kMinMax:
      return "MinMaxObserver";
    case ObserverKind::kPerChannelMinMax:
      return "PerChannelMinMaxObserver";
    case ObserverKind::kMovingAverageMinMax:
      return "MovingAverageMinMaxObserver";
    case ObserverKind::kMovingAveragePerChannelMinMax:
      return "MovingAveragePerChannelMinMaxObserver";
    case ObserverKind::kHistogram:
      return "HistogramObserver";
  }
  return "";
}

Json spec_json(const QuantizationSpec& spec, PointKind kind) {
  const bool weight = kind == PointKind::kWeight;
  const bool is_signed = weight || spec.signedness_to_force.value_or(false);
  const int64_t levels = int64_t{1} << format_info(spec.format).bits;
  Json json;
  if (spec.format == Format::kF8E4M3 || spec.format == Format::kF8E5M2) {
    json["dtype"] = spec.format == Format::kF8E4M3 ? "torch.float8_e4m3fn" : "torch.float8_e5m2";
  } else if (!format_info(spec.format).integer) {
    json["dtype"] = to_string(spec.format);
  } else if (spec.dtype) {
    const bool byte = *spec.dtype == c10::kByte || *spec.dtype == c10::kQUInt8;
    json["dtype"] = byte ? "torch.uint8" : *spec.dtype == c10::kInt ? "torch.int32" : "torch.int8";
  } else {
    json["dtype"] = is_signed ? "torch.int8" : "torch.uint8";
  }
  json["observer"] = observer_name(spec, kind);
  json["quant_min"] = spec.quant_min.value_or(weight ? -levels / 2 : 0);
  json["quant_max"] = spec.quant_max.value_or(weight ? levels / 2 - 1 : levels - 1);
  json["qscheme"] = fmt::format("torch.per_{}_{}", spec.per_channel ? "channel" : "tensor",
                                spec.mode == QuantizationScheme::kSymmetric ? "symmetric" : "affine");
  json["ch_axis"] = spec.ch_axis;
  return json;
}

Json shared_json(const SharedQuantizationSpec& shared, const GraphView& view) {
  const auto& producer = view.find(shared.producer)->fx_name;
  if (shared.consumer.empty()) return {{"shared_with", producer}};
  return {{"shared_with", {producer, view.find(shared.consumer)->fx_name}}};
}

PointKind kind_of(const GraphView& view, const ViewEdge& edge) {
  return view.node(edge.from).kind == NodeKind::kParameter ? PointKind::kWeight : PointKind::kActivation;
}

Json node_json(const ViewNode& node, const QuantizationAnnotation& annotation, const GraphView& view) {
  Json inputs = Json::object();
  // Upstream keys inputs by their producer; an operator that reads one tensor twice needs the argument too.
  const auto key_of = [&](int64_t port) {
    const auto& name = view.node(view.input_edge(node, port)->from).fx_name;
    return inputs.contains(name) ? fmt::format("{}:{}", name, port) : name;
  };
  for (const auto& [port, spec] : annotation.input_qspec_map) {
    inputs[key_of(port)] = spec_json(spec, kind_of(view, *view.input_edge(node, port)));
  }
  for (const auto& [port, shared] : annotation.shared_input_map) inputs[key_of(port)] = shared_json(shared, view);
  Json output = nullptr;
  if (annotation.output_qspec) output = spec_json(*annotation.output_qspec, PointKind::kActivation);
  if (annotation.shared_output) output = shared_json(*annotation.shared_output, view);
  return {{"node", node.fx_name}, {"inputs", inputs}, {"output", output}};
}

}  // namespace

std::map<std::string, QuantizationAnnotation> pt2e_annotations(const Annotations& annotations, const GraphView& view) {
  const auto roots = roots_of(annotations, view);
  std::map<std::string, QuantizationAnnotation> result;
  for (const auto& point : annotations.points) {
    auto& annotation = result[point.node];
    const auto root = roots.find(point.id);
    const bool shared = root != roots.end();
    if (point.input_port && shared) {
      annotation.shared_input_map[*point.input_port] = root->second;
    } else if (point.input_port) {
      annotation.input_qspec_map[*point.input_port] = point.spec;
    } else if (shared) {
      annotation.shared_output = root->second;
    } else {
      annotation.output_qspec = point.spec;
    }
  }
  return result;
}

std::string pt2e_json(const Annotations& annotations, const GraphView& view) {
  const auto by_name = pt2e_annotations(annotations, view);
  Json nodes = Json::array();
  for (const auto& node : view.nodes()) {
    const auto found = by_name.find(node.name);
    if (found != by_name.end()) nodes.push_back(node_json(node, found->second, view));
  }
  return Json{{"annotations", nodes}}.dump(1);
}

}  // namespace tsquant

#include "quantizers/openvino/recurrent.h"

#include <algorithm>

#include "graph/carried_state.h"
#include "graph/params.h"

namespace tsquant::openvino {

namespace {

QuantizationSpec weight_spec(const QuantizationParameters& params) {
  QuantizationSpec spec;
  spec.format = integer_format(params.num_bits.value_or(8));
  spec.mode = params.mode.value_or(QuantizationScheme::kSymmetric);
  if (spec.mode == QuantizationScheme::kSymmetric) spec.signedness_to_force = params.signedness_to_force.value_or(true);
  spec.per_channel = params.per_channel.value_or(true);
  spec.narrow_range = params.narrow_range.value_or(true);
  return spec;
}

QuantizationSpec input_spec(const OpenVINOQuantizerOptions& options) {
  const auto& params = options.activations_quantization_params;
  QuantizationSpec spec;
  spec.format = integer_format(params.num_bits.value_or(8));
  // What goes into a gate is seldom centred (embeddings, rectified features), and its error adds up over the steps. A
  // preset for speed has no say: these operators compute in float. fp8 has no zero points.
  spec.mode = params.mode.value_or(options.mode ? QuantizationScheme::kSymmetric : QuantizationScheme::kAsymmetric);
  spec.signedness_to_force = params.signedness_to_force;
  // A clipped step changes the state of all later ones, so the range covers every value.
  spec.observer = ObserverKind::kMinMax;
  spec.ch_axis = 1;
  return spec;
}

/// True when a quantizer acts on this edge already.
bool is_quantized(const Annotations& annotations, const GraphView& view, const ViewEdge& edge) {
  const auto& from = view.node(edge.from).name;
  const auto& to = view.node(edge.to).name;
  return std::any_of(annotations.points.begin(), annotations.points.end(), [&](const QuantizationPoint& point) {
    return point.input_port ? point.node == to && *point.input_port == edge.input_port : point.node == from;
  });
}

}  // namespace

void add_recurrent_points(const GraphView& view, const std::vector<bool>& ignored,
                          const OpenVINOQuantizerOptions& options, Annotations& annotations) {
  int64_t next_id = 1;
  for (const auto& point : annotations.points) next_id = std::max(next_id, point.id + 1);
  for (const ViewNode& node : view.nodes()) {
    if (!is_recurrent(node) || ignored[node.id]) continue;
    for (const int64_t id : node.in_edges) {
      const ViewEdge& edge = view.edge(id);
      const auto parameter = param_of(view.model(), edge.value);
      const bool weight = parameter && parameter->tensor.dim() == 2 && parameter->tensor.is_floating_point();
      const bool input = !parameter && edge.input_port == 0 && (!edge.info.known || edge.info.is_floating());
      if ((!weight && !input) || is_quantized(annotations, view, edge)) continue;
      QuantizationPoint point;
      point.id = next_id++;
      point.kind = weight ? PointKind::kWeight : PointKind::kActivation;
      point.node = node.name;
      point.input_port = edge.input_port;
      point.spec = weight ? weight_spec(options.weights_quantization_params) : input_spec(options);
      point.quantized_nodes = {node.name};
      point.reason = weight ? "weight of " + node.type : "input sequence of " + node.type;
      annotations.points.push_back(std::move(point));
    }
    auto& refusals = annotations.refusals;
    refusals.erase(std::remove_if(refusals.begin(), refusals.end(),
                                  [&](const Refusal& refusal) { return refusal.node == node.name; }),
                   refusals.end());
  }
}

}  // namespace tsquant::openvino

#include "algorithms/bias_layers.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "graph/op_table.h"
#include "graph/params.h"

namespace tsquant {

namespace {

constexpr double kSmallestShift = 0.5;

/// Whether the layer's bias can be corrected.
bool find_bias(const Model& model, bool all_nodes, BiasLayer& layer) {
  const auto bias = optional_param_of(model, layer.node->input(WeightedLayer::kBias));
  layer.has_bias = bias && bias->defined();
  return bias && (layer.has_bias || all_nodes);
}

}  // namespace

std::vector<BiasLayer> find_bias_layers(const Model& model, const GraphView& view, const Annotations& annotations,
                                        bool all_nodes) {
  const ParamScope scope(model);
  std::map<int64_t, BiasLayer> layers;
  for (const auto& point : annotations.points) {
    if (point.kind != PointKind::kWeight || !point.input_port) continue;
    const ViewNode* node = view.find(point.node);
    if (!node || !node->op || !node->node || layer_kind(node->node) == LayerKind::kNone) continue;
    const ViewEdge* input = view.input_edge(*node, 0);
    const ViewEdge* weight = view.input_edge(*node, *point.input_port);
    if (!input || !weight || input->use.user != node->node || weight->use.user != node->node) continue;
    if (weight->use.offset != WeightedLayer::kWeight || param_of(model, input->value)) continue;
    BiasLayer layer;
    layer.name = node->name;
    layer.node = node->node;
    layer.point = point.id;
    layer.axis = node->op->output_channel_axis;
    layer.input_tap = {input->value, input->use};
    layer.output_tap = {node->value, {nullptr, 0}};
    if (find_bias(model, all_nodes, layer)) layers.emplace(node->id, std::move(layer));
  }
  std::map<std::string, int64_t> input_points;
  for (const auto& point : annotations.points) {
    if (point.kind != PointKind::kActivation) continue;
    for (const auto& name : point.quantized_nodes) input_points[name] = point.id;
  }
  std::vector<BiasLayer> ordered;
  for (auto& entry : layers) {
    const auto found = input_points.find(entry.second.name);
    if (found != input_points.end()) entry.second.input_point = found->second;
    ordered.push_back(std::move(entry.second));
  }
  return ordered;
}

at::Tensor bias_of(const Model& model, const BiasLayer& layer, int64_t channels) {
  const auto bias = param_of(model, layer.node->input(WeightedLayer::kBias));
  if (bias) return bias->tensor;
  return at::zeros({channels}, param_of(model, layer.node->input(WeightedLayer::kWeight))->tensor.options());
}

at::Tensor mean_weight_error(const KernelMean& inputs, const at::Tensor& weight, const QParams& qparams) {
  constexpr int64_t kSlice = 64;
  const auto error_of = [&](const at::Tensor& part, const QParams& q) {
    return inputs.response(part) - inputs.response(dequantize(quantize(part, q), q));
  };
  const bool sliceable = inputs.takes_slices() && (!qparams.per_channel || qparams.axis == 0);
  if (!sliceable || weight.size(0) <= kSlice) return error_of(weight, qparams);
  std::vector<at::Tensor> errors;
  for (int64_t start = 0; start < weight.size(0); start += kSlice) {
    const int64_t size = std::min(kSlice, weight.size(0) - start);
    QParams part = qparams;
    if (qparams.per_channel) {
      part.scale = qparams.scale.narrow(0, start, size);
      part.zero_point = qparams.zero_point.narrow(0, start, size);
    }
    errors.push_back(error_of(weight.narrow(0, start, size), part));
  }
  return at::cat(errors);
}

at::Tensor quantized_weight(const Model& model, const BiasLayer& layer, const QParams& qparams) {
  const auto weight = param_of(model, layer.node->input(WeightedLayer::kWeight));
  return dequantize(quantize(weight->tensor, qparams), qparams);
}

at::Tensor without_noise(const Model& model, const BiasLayer& layer, const QParamTable& qparams,
                         const BiasCorrectionParameters& parameters, const at::Tensor& shift) {
  const bool as_nncf = parameters.reference == BiasReference::kCollected;
  const double smallest = parameters.smallest_shift.value_or(as_nncf ? 0 : kSmallestShift);
  const auto input = layer.input_point ? qparams.find(*layer.input_point) : qparams.end();
  const at::Tensor weight = param_of(model, layer.node->input(WeightedLayer::kWeight))->tensor;
  const auto geometry = kernel_geometry(model, layer.node, weight);
  if (smallest == 0 || input == qparams.end() || !geometry) return shift;
  const double step = std::sqrt(input->second.scale.to(at::kDouble).square().mean().item<double>());
  const at::Tensor noise = geometry->rows(weight).norm(2, 1).to(at::kDouble) * (step / std::sqrt(12.0));
  return at::where(shift.to(at::kDouble).abs() < smallest * noise.view_as(shift), at::zeros_like(shift), shift);
}

BiasRecord correct_bias(Model& model, const BiasLayer& layer, const QParamTable& qparams,
                        const BiasCorrectionParameters& parameters, const at::Tensor& exact, double magnitude,
                        c10::optional<double> default_threshold) {
  const at::Tensor shift = without_noise(model, layer, qparams, parameters, exact);
  const auto threshold = parameters.threshold ? parameters.threshold : default_threshold;
  BiasRecord record{layer.name, false, !shift.any().item<bool>() && exact.any().item<bool>(), magnitude, {}};
  const bool limited = layer.has_bias && threshold;
  const bool accepted = limited ? magnitude < *threshold : at::isfinite(shift).all().item<bool>();
  if (record.noise || !accepted) return record;
  const at::Tensor bias = bias_of(model, layer, shift.numel());
  set_bias(model, layer.node, bias + shift.to(bias.scalar_type()).view_as(bias));
  record.corrected = true;
  record.added = shift;
  return record;
}

}  // namespace tsquant

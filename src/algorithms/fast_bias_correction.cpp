#include "algorithms/fast_bias_correction.h"

#include <cmath>
#include <limits>
#include <set>

#include "algorithms/channel_mean.h"
#include "graph/op_table.h"
#include "graph/params.h"
#include "numerics/qparams.h"
#include "tsquant/error.h"

namespace tsquant {

struct FastBiasCorrection::Layer {
  std::string name;
  torch::jit::Node* node = nullptr;
  size_t input = 0, weight = 0, bias = 0;  // inputs of `node`
  int64_t point = 0;                       // the weight's quantizer
  int64_t axis = 1;
  TapPoint input_tap, output_tap;
  ChannelMean input_mean{1}, output_mean{1};
};

namespace {

/// Sizes of `shape` filled with one value per channel.
at::Tensor filled(const std::vector<int64_t>& shape, const at::Tensor& means, int64_t axis) {
  std::vector<int64_t> broadcast(shape.size(), 1);
  broadcast[at::maybe_wrap_dim(axis, static_cast<int64_t>(shape.size()))] = means.numel();
  return means.view(broadcast).expand(shape).contiguous();
}

/// Runs one node with some of its inputs replaced; the others must be constants.
at::Tensor run_alone(const Model& model, const torch::jit::Node* node,
                     const std::map<size_t, at::Tensor>& replacements) {
  torch::jit::Stack stack;
  for (size_t i = 0; i < node->inputs().size(); ++i) {
    const auto given = replacements.find(i);
    if (given != replacements.end()) {
      stack.emplace_back(given->second);
      continue;
    }
    const auto constant = constant_of(model, node->input(i));
    if (!constant) return {};
    stack.push_back(*constant);
  }
  node->getOperation()(stack);
  return stack.front().toTensor();
}

double largest_relative_shift(const at::Tensor& shift, const at::Tensor& bias) {
  if (bias.eq(0).any().item<bool>()) return std::numeric_limits<double>::infinity();
  return shift.div(bias).abs().max().item<double>();
}

}  // namespace

FastBiasCorrection::FastBiasCorrection(const Model& model, const GraphView& view, const Annotations& annotations) {
  for (const auto& point : annotations.points) {
    if (point.kind != PointKind::kWeight || !point.input_port) continue;
    const ViewNode* node = view.find(point.node);
    if (!node || !node->op || node->op->bias_port < 0 || node->op->output_channel_axis == -100) continue;
    const ViewEdge* input = view.input_edge(*node, 0);
    const ViewEdge* weight = view.input_edge(*node, *point.input_port);
    const ViewEdge* bias = view.input_edge(*node, node->op->bias_port);
    if (!input || !weight || !bias || input->use.user != bias->use.user) continue;
    if (param_of(model, input->value) || !param_of(model, bias->value)) continue;
    auto layer = std::make_shared<Layer>();
    layer->name = node->name;
    layer->node = node->node;
    layer->input = input->use.offset;
    layer->weight = weight->use.offset;
    layer->bias = bias->use.offset;
    layer->point = point.id;
    layer->axis = node->op->output_channel_axis;
    layer->input_mean = ChannelMean(layer->axis);
    layer->output_mean = ChannelMean(layer->axis);
    layer->input_tap = {input->value, input->use};
    layer->output_tap = {node->value, {nullptr, 0}};
    layers_.push_back(std::move(layer));
  }
}

std::vector<ExtraTap> FastBiasCorrection::taps() {
  std::vector<ExtraTap> taps;
  for (auto& layer : layers_) {
    taps.push_back({layer->input_tap, &layer->input_mean, layer->name});
    taps.push_back({layer->output_tap, &layer->output_mean, layer->name});
  }
  return taps;
}

std::vector<FastBiasCorrection::Record> FastBiasCorrection::apply(Model& model, const QParamTable& qparams,
                                                                  const BiasCorrectionParameters& parameters) {
  at::NoGradGuard no_grad;
  std::vector<Record> records;
  for (auto& layer : layers_) {
    const auto found = qparams.find(layer->point);
    const auto weight = param_of(model, layer->node->input(layer->weight));
    const auto bias = param_of(model, layer->node->input(layer->bias));
    if (found == qparams.end() || !weight || !bias || layer->input_mean.batches() == 0) continue;
    const at::Tensor input = filled(layer->input_mean.first_shape(), layer->input_mean.mean(), layer->axis);
    const auto mean_output = [&](const at::Tensor& used_weight) {
      const at::Tensor output = run_alone(
          model, layer->node,
          {{layer->input, input}, {layer->weight, used_weight.to(input.dtype())}, {layer->bias, bias->tensor}});
      return output.defined() ? mean_per_channel(output, layer->axis).to(c10::kFloat) : output;
    };
    const at::Tensor actual = mean_output(dequantize(quantize(weight->tensor, found->second), found->second));
    if (!actual.defined()) continue;
    const bool simulated = parameters.reference == BiasReference::kSimulated;
    const at::Tensor shift = (simulated ? mean_output(weight->tensor) : layer->output_mean.mean()) - actual;
    Record record{layer->name, false, largest_relative_shift(shift, bias->tensor)};
    record.corrected = record.magnitude < parameters.threshold.value_or(2.0);
    if (record.corrected) set_param(model, layer->node, layer->bias, bias->tensor + shift.to(bias->tensor.dtype()));
    records.push_back(record);
  }
  return records;
}

}  // namespace tsquant

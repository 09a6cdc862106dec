#include "algorithms/fast_bias_correction.h"

#include <ATen/ATen.h>

#include <limits>

#include "algorithms/channel_mean.h"
#include "algorithms/kernel_mean.h"
#include "graph/params.h"

namespace tsquant {

/// A layer and its statistics: `kernel_mean` for the simulated reference, the two others for the collected one.
struct FastBiasCorrection::Collected {
  BiasLayer layer;
  std::unique_ptr<KernelMean> kernel_mean;
  std::unique_ptr<ChannelMean> input_mean, output_mean;
};

namespace {

constexpr double kFastThreshold = 2;  // nncf: FAST_BIAS_CORRECTION_THRESHOLD

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

/// nncf: _get_bias_shift_magnitude
double largest_shift_by_bias(const at::Tensor& shift, const at::Tensor& bias) {
  if (bias.eq(0).any().item<bool>()) return std::numeric_limits<double>::infinity();
  return shift.view_as(bias).div(bias).abs().max().item<double>();
}

}  // namespace

FastBiasCorrection::FastBiasCorrection(const Model& model, const GraphView& view, const Annotations& annotations,
                                       const BiasCorrectionParameters& parameters)
    : parameters_(parameters) {
  const ParamScope scope(model);
  for (auto& layer : find_bias_layers(model, view, annotations, parameters.apply_for_all_nodes)) {
    auto collected = std::make_shared<Collected>();
    if (parameters.reference.value_or(BiasReference::kSimulated) == BiasReference::kSimulated) {
      const auto weight = param_of(model, layer.node->input(WeightedLayer::kWeight));
      const auto geometry = weight ? kernel_geometry(model, layer.node, weight->tensor) : c10::nullopt;
      if (!geometry) continue;
      collected->kernel_mean = std::make_unique<KernelMean>(*geometry);
    } else {
      collected->input_mean = std::make_unique<ChannelMean>(layer.axis);
      collected->output_mean = std::make_unique<ChannelMean>(layer.axis);
    }
    collected->layer = std::move(layer);
    layers_.push_back(std::move(collected));
  }
}

std::vector<ExtraTap> FastBiasCorrection::taps() {
  std::vector<ExtraTap> taps;
  for (auto& layer : layers_) {
    const BiasLayer& where = layer->layer;
    if (layer->kernel_mean) taps.push_back({where.input_tap, layer->kernel_mean.get(), where.name});
    if (layer->input_mean) taps.push_back({where.input_tap, layer->input_mean.get(), where.name});
    if (layer->output_mean) taps.push_back({where.output_tap, layer->output_mean.get(), where.name});
  }
  return taps;
}

at::Tensor FastBiasCorrection::shift_of(const Model& model, const Collected& collected, const QParams& qparams) const {
  const BiasLayer& layer = collected.layer;
  const auto weight = param_of(model, layer.node->input(WeightedLayer::kWeight));
  if (!weight) return {};
  if (collected.kernel_mean) {
    const auto& inputs = *collected.kernel_mean;
    return inputs.batches() > 0 ? mean_weight_error(inputs, weight->tensor, qparams).to(c10::kFloat) : at::Tensor();
  }
  if (collected.input_mean->batches() == 0) return {};
  const auto expected = collected.output_mean->mean();
  const auto input = filled(collected.input_mean->first_shape(), collected.input_mean->mean(), layer.axis);
  const auto bias = bias_of(model, layer, expected.numel()).to(input.dtype());
  const auto used = quantized_weight(model, layer, qparams).to(input.dtype());
  using L = WeightedLayer;
  const auto output = run_alone(model, layer.node, {{L::kInput, input}, {L::kWeight, used}, {L::kBias, bias}});
  return output.defined() ? expected - mean_per_channel(output, layer.axis).to(c10::kFloat) : output;
}

std::vector<BiasRecord> FastBiasCorrection::apply(Model& model, const QParamTable& qparams) {
  at::NoGradGuard no_grad;
  const ParamScope scope(model);
  std::vector<BiasRecord> records;
  const auto threshold =
      parameters_.reference == BiasReference::kCollected ? c10::optional<double>(kFastThreshold) : c10::nullopt;
  for (const auto& collected : layers_) {
    const BiasLayer& layer = collected->layer;
    const auto found = qparams.find(layer.point);
    if (found == qparams.end()) continue;
    const at::Tensor shift = shift_of(model, *collected, found->second);
    if (!shift.defined()) continue;
    const double magnitude = largest_shift_by_bias(shift, bias_of(model, layer, shift.numel()));
    records.push_back(correct_bias(model, layer, qparams, parameters_, shift, magnitude, threshold));
  }
  return records;
}

}  // namespace tsquant

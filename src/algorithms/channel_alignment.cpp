#include "algorithms/channel_alignment.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <limits>

#include "algorithms/alignment_pairs.h"
#include "graph/params.h"
#include "graph/weighted_layer.h"

namespace tsquant {

namespace {

constexpr size_t kWeight = WeightedLayer::kWeight, kBias = WeightedLayer::kBias;
constexpr double kQuantile = 1e-4;
constexpr double kSmallestFactor = 1e-2, kLargestFactor = 1e2;

/// Median over samples of the quantiles of each sample's channel.
std::unique_ptr<RangeEstimatorObserver> channel_extrema(int64_t axis) {
  const StatisticsCollectorParameters bound{StatisticsType::kQuantile, AggregatorType::kMedian, {}, kQuantile};
  return std::make_unique<RangeEstimatorObserver>(RangeEstimatorParameters{bound, bound}, axis, /*per_item=*/true);
}

void collect(const Model& model, const GraphView& view, const Dataset& dataset, std::vector<AlignmentPair>& pairs,
             CalibrationOptions calibration) {
  calibration.collection = "channel_alignment";
  calibration.extra_taps.clear();
  for (auto& pair : pairs) {
    pair.extrema = channel_extrema(pair.axis);
    calibration.extra_taps.push_back({{pair.between->value, {nullptr, 0}}, pair.extrema.get(), pair.producer->name});
  }
  calibrate(model, view, {}, dataset, calibration);
}

at::Tensor tensor_of(const Model& model, const ViewNode& node, size_t input) {
  return param_of(model, node.node->input(input))->tensor;
}

void write(Model& model, const ViewNode& node, size_t input, const at::Tensor& value, c10::ScalarType dtype) {
  set_param(model, node.node, input, value.to(dtype));
}

/// One value per output channel, shaped for a weight.
at::Tensor along(const at::Tensor& values, const at::Tensor& weight, int64_t axis) {
  std::vector<int64_t> shape(static_cast<size_t>(weight.dim()), 1);
  shape[static_cast<size_t>(axis)] = values.numel();
  return values.reshape(shape);
}

/// The bias in float32, zero where the layer has none.
at::Tensor bias_of(const Model& model, const ViewNode& node) {
  const auto bias = param_of(model, node.node->input(kBias));
  return bias ? bias->tensor.to(at::kFloat) : at::zeros({tensor_of(model, node, kWeight).size(0)}, at::kFloat);
}

void write_bias(Model& model, const ViewNode& node, const at::Tensor& value) {
  set_bias(model, node.node, value.to(tensor_of(model, node, kWeight).scalar_type()));
}

/// Producer: lower by `shift`, divide by `factor`. An added constant takes the shift, as the bias that it is.
void align_producer(Model& model, const AlignmentPair& pair, const at::Tensor& shift, const at::Tensor& factor) {
  const ViewNode& producer = *pair.producer;
  const at::Tensor weight = tensor_of(model, producer, kWeight);
  at::Tensor bias = bias_of(model, producer);
  if (pair.addition) {
    const at::Tensor addend = tensor_of(model, *pair.addition, pair.addend);
    const at::Tensor moved = (addend.to(at::kFloat) - shift.view(addend.sizes())) / factor.view(addend.sizes());
    write(model, *pair.addition, pair.addend, moved, addend.scalar_type());
  } else {
    bias = bias - shift;
  }
  write(model, producer, kWeight, weight.to(at::kFloat) / along(factor, weight, 0), weight.scalar_type());
  write_bias(model, producer, bias / factor);
}

/// Consumer: add back what the shift takes away, multiply by `factor`.
void align_consumer(Model& model, const ViewNode& consumer, const at::Tensor& shift, const at::Tensor& factor) {
  const at::Tensor weight = tensor_of(model, consumer, kWeight);
  const at::Tensor values = weight.to(at::kFloat);
  const at::Tensor summed = values.flatten(1).reshape({values.size(0), values.size(1), -1}).sum(-1);
  const at::Tensor bias = bias_of(model, consumer) + summed.matmul(shift);
  write(model, consumer, kWeight, values * along(factor, weight, 1), weight.scalar_type());
  write_bias(model, consumer, bias);
}

}  // namespace

at::Tensor alignment_factor(const at::Tensor& widths) {
  const at::Tensor width = widths.to(at::kFloat);
  const at::Tensor positive = width > std::numeric_limits<float>::epsilon();
  if (!positive.any().item<bool>()) return at::ones_like(width);
  const at::Tensor middle = at::quantile(width.masked_select(positive), 0.5);
  const at::Tensor factor = at::where(positive, width / middle, at::ones_like(width));
  return factor.clamp(kSmallestFactor, kLargestFactor);
}

ChannelAlignmentResult align_channels(Model& model, const Dataset& dataset, CalibrationOptions calibration) {
  at::NoGradGuard no_grad;
  ChannelAlignmentResult result;
  const GraphView view(model);
  auto pairs = find_alignment_pairs(model, view);
  result.found = static_cast<int64_t>(pairs.size());
  if (pairs.empty()) return result;
  collect(model, view, dataset, pairs, std::move(calibration));
  for (const auto& pair : pairs) {
    if (pair.extrema->batches() == 0) {
      result.warnings.push_back(fmt::format("ChannelAlignment left out {} and {}: no sample reached them",
                                            pair.producer->name, pair.consumer->name));
      continue;
    }
    const Range range = pair.extrema->range();
    const at::Tensor shift = (range.max + range.min) * 0.5, factor = alignment_factor(range.max - range.min);
    align_producer(model, pair, shift, factor);
    align_consumer(model, *pair.consumer, shift, factor);
    result.pairs.push_back({pair.producer->name, pair.consumer->name, shift, factor});
  }
  return result;
}

}  // namespace tsquant

#include "compression/awq_scale.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <limits>
#include <set>

#include "compression/layer_matrix.h"
#include "compression/round_to_nearest.h"
#include "tsquant/error.h"

namespace tsquant {

namespace {

constexpr double kLowestQuantile = 0.1;
constexpr double kLargestMagnitude = 100;
/// A quarter of the largest float16.
constexpr double kLargestOutput = 0.25 * 65504;

void check_awq(const AdvancedAWQParameters& p) {
  if (p.percent_to_apply > 0 && p.percent_to_apply <= 1 && p.alpha_min <= p.alpha_max && p.steps >= 1) return;
  throw Error(ErrorCode::kInvalidArgument,
              fmt::format("AWQ with percent_to_apply {}, alpha_min {}, alpha_max {} and {} steps", p.percent_to_apply,
                          p.alpha_min, p.alpha_max, p.steps),
              "awq_params", "give a fraction above 0 and at most 1, alpha_min <= alpha_max, and at least one step");
}

/// The groups that hold the channels with the largest magnitudes.
std::set<int64_t> groups_to_scale(const at::Tensor& magnitudes, int64_t group_size, double fraction) {
  const int64_t channels = magnitudes.numel();
  const auto count = std::max<int64_t>(static_cast<int64_t>(static_cast<double>(channels) * fraction), 1);
  const auto order = at::argsort(magnitudes, 0, /*descending=*/true);
  std::set<int64_t> groups;
  for (int64_t i = 0; i < count; ++i) groups.insert(order[i].item<int64_t>() / group_size);
  return groups;
}

/// One group of input channels and the search for its scale.
struct AwqGroup {
  at::Tensor weight;      ///< [outputs, channels]
  at::Tensor inputs;      ///< [channels, samples]
  at::Tensor magnitudes;  ///< [channels]
  at::Tensor smallest;    ///< [channels], or undefined

  at::Tensor scale_for(double alpha) const {
    const auto lowest = at::quantile(magnitudes, kLowestQuantile);
    const auto limit = at::full({}, kLargestMagnitude);
    const auto scale = at::minimum(at::maximum(magnitudes, lowest), limit).pow(alpha);
    return smallest.defined() ? at::maximum(scale, smallest) : scale;
  }

  /// The best scale of the grid; undefined when all make outputs worse than their largest magnitude.
  at::Tensor search(const QuantizationSpec& spec, const AdvancedAWQParameters& p) const {
    const auto wanted = at::mm(weight.to(at::kDouble), inputs.to(at::kDouble));
    double least = wanted.abs().max().item<double>();
    at::Tensor best;
    for (int64_t k = 0; k < p.steps; ++k) {
      const double part = static_cast<double>(k) / static_cast<double>(p.steps);
      const auto scale = scale_for(p.alpha_min + part * (p.alpha_max - p.alpha_min));
      // A group of inputs that are all 0 has no scale.
      if (!(at::isfinite(scale) & (scale > 0)).all().item<bool>()) continue;
      const auto values = decompress(round_to_nearest(weight * scale, spec));
      const auto outputs = at::mm(values.to(at::kDouble), (inputs / scale.unsqueeze(1)).to(at::kDouble));
      const double error = (outputs - wanted).abs().mean().item<double>();
      if (error >= least) continue;
      least = error;
      best = scale;
    }
    return best;
  }
};

at::Tensor data_aware_scale(const LayerMatrix& matrix, const LayerSamples& samples, const at::Tensor& inputs,
                            const AdvancedAWQParameters& parameters, const at::Tensor& smallest) {
  const auto magnitudes = samples.magnitudes();
  auto scale = at::ones_like(magnitudes);
  const int64_t size = matrix.group_size();
  for (const int64_t group : groups_to_scale(magnitudes, size, parameters.percent_to_apply)) {
    const auto part = [&](const at::Tensor& x, int64_t axis) { return x.narrow(axis, group * size, size); };
    const AwqGroup search{part(matrix.weight(), 1), part(inputs, 0), part(magnitudes, 0),
                          smallest.defined() ? part(smallest, 0) : smallest};
    const auto best = search.search(matrix.spec(), parameters);
    if (best.defined()) part(scale, 0).copy_(best);
  }
  return scale;
}

at::Tensor data_free_scale(const at::Tensor& weight, const at::Tensor& smallest) {
  const auto scale = weight.abs().mean(0).clamp_min(std::numeric_limits<float>::epsilon()).reciprocal();
  return smallest.defined() ? at::maximum(scale, smallest) : scale;
}

at::Tensor plain_values(const LayerMatrix& matrix, const at::Tensor& scale) {
  if (!scale.defined()) return decompress(round_to_nearest(matrix.weight(), matrix.spec()));
  return decompress(round_to_nearest(matrix.weight() * scale, matrix.spec())) / scale;
}

}  // namespace

AwqScale awq_scale(const at::Tensor& weight, const QuantizationSpec& spec, const LayerSamples* samples,
                   const AdvancedAWQParameters& parameters, const at::Tensor& smallest) {
  check_awq(parameters);
  const LayerMatrix matrix(weight, spec, "awq");
  if (smallest.defined()) matrix.check_channels(smallest.numel());
  if (samples == nullptr) return {data_free_scale(matrix.weight(), smallest), c10::nullopt};

  const auto inputs = samples->inputs(parameters.subset_size);
  matrix.check_channels(inputs.size(0));
  AwqScale result;
  result.scale = parameters.prefer_data_aware_scaling ? data_aware_scale(matrix, *samples, inputs, parameters, smallest)
                                                      : data_free_scale(matrix.weight(), smallest);
  if ((result.scale == 1).all().item<bool>()) result.scale = at::Tensor();
  const double before = error_by_inputs(matrix.weight(), plain_values(matrix, {}), inputs);
  const double after =
      result.scale.defined() ? error_by_inputs(matrix.weight(), plain_values(matrix, result.scale), inputs) : before;
  result.error = OutputError{before, after};
  return result;
}

at::Tensor smallest_awq_scale(const at::Tensor& weight, const LayerSamples& samples) {
  const double largest = samples.magnitudes().max().item<double>();
  const auto mean = weight.detach().to(at::kDouble).abs().mean(1);
  return (mean * (largest * static_cast<double>(weight.size(1)) / kLargestOutput)).to(at::kFloat);
}

}  // namespace tsquant

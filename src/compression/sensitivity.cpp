#include "compression/sensitivity.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "compression/round_to_nearest.h"
#include "io/file_mapping.h"
#include "tsquant/error.h"

namespace tsquant {

namespace {

constexpr double kErrorEps = std::numeric_limits<float>::epsilon();

/// What one sample is reduced to, in a fixed order of additions, whatever the number of threads.
struct SampleNumbers {
  double square = 0;            ///< sum of all squares
  double variance = 0;          ///< sum over items and channels of the variance over rows
  double largest_variance = 0;  ///< the largest of these
  double magnitude = 0;         ///< sum over items and channels of the largest magnitude

  void add_item(const float* x, int64_t rows, int64_t channels) {
    std::vector<double> mean(channels), largest(channels), deviation(channels);
    const auto count = static_cast<double>(rows);
    for (int64_t i = 0; i < rows * channels; i += channels) {
      for (int64_t c = 0; c < channels; ++c) {
        const double value = x[i + c];
        mean[c] += value / count;
        largest[c] = std::max(largest[c], std::fabs(value));
        square += value * value;
      }
    }
    for (int64_t i = 0; i < rows * channels; i += channels) {
      for (int64_t c = 0; c < channels; ++c) deviation[c] += (x[i + c] - mean[c]) * (x[i + c] - mean[c]) / count;
    }
    for (int64_t c = 0; c < channels; ++c) {
      variance += deviation[c];
      largest_variance = std::max(largest_variance, deviation[c]);
      magnitude += largest[c];
    }
  }
};

/// What 8-bit codes, one scale for each output channel, make of a weight.
struct Int8Error {
  double sum = 0;           ///< of all squares
  double largest_mean = 0;  ///< of the squares of one output channel

  /// @param rows [output channels, ..]
  void add(const at::Tensor& rows, PartRounding& rounding) {
    const auto w = rows.to(at::kFloat).contiguous();
    const auto difference = decompress(rounding.round(w)).to(at::kDouble).sub_(w);
    const auto squares = difference.square_().reshape({w.size(0), -1});
    sum += squares.sum().item<double>();
    largest_mean = std::max(largest_mean, squares.mean(1).max().item<double>());
  }
};

/// Some channels at a time: differences in float64 of a whole weight would take many times its own memory, and in small
/// parts they stay in the cache.
Int8Error int8_error(const at::Tensor& weight, int64_t ch_axis) {
  constexpr int64_t kPartValues = 1 << 17;
  if (ch_axis < 0 || ch_axis >= weight.dim()) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("ch_axis is {}, but the weight has {} dimensions", ch_axis, weight.dim()), "",
                "give an existing axis");
  }
  const auto rows = weight.detach().movedim(ch_axis, 0);
  const int64_t count = rows.size(0),
                step = std::max<int64_t>(1, kPartValues * count / std::max<int64_t>(1, weight.numel()));
  QuantizationSpec spec;
  spec.mode = QuantizationScheme::kAsymmetric;
  spec.per_channel = true;
  PartRounding rounding(rows, spec);
  Int8Error error;
  for (int64_t begin = 0; begin < count; begin += step) {
    error.add(rows.narrow(0, begin, std::min(step, count - begin)), rounding);
    give_pages_back(weight);
  }
  return error;
}

}  // namespace

void InputStatistics::add(const at::Tensor& inputs) {
  if (inputs.dim() < 2 || !inputs.is_floating_point()) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("inputs of type {} and {} dimensions have no rows and channels",
                            c10::toString(inputs.scalar_type()), inputs.dim()),
                "", "use the metric weight_quantization_error");
  }
  if (inputs.numel() == 0) return;
  const int64_t rows = inputs.size(-2), channels = inputs.size(-1), items = inputs.numel() / (rows * channels);
  const auto x = inputs.detach().to(at::kFloat).contiguous();
  SampleNumbers sum;
  for (int64_t item = 0; item < items; ++item) {
    sum.add_item(x.data_ptr<float>() + item * rows * channels, rows, channels);
  }
  if (!std::isfinite(sum.square)) {
    throw Error(ErrorCode::kCalibration, "the inputs of a layer have NaN or infinite values", "",
                "check the calibration data and the model's outputs for them");
  }
  const auto count = static_cast<double>(items * channels);
  ++samples;
  hessian_trace = (hessian_trace + sum.square) / static_cast<double>(x.numel());
  mean_variance += sum.variance / count;
  max_variance += sum.largest_variance;
  mean_magnitude += sum.magnitude / count;
}

double InputStatistics::factor(SensitivityMetric metric) const {
  if (metric == SensitivityMetric::kWeightQuantizationError) return 1;
  if (samples == 0) {
    throw Error(ErrorCode::kCalibration, "no inputs of a layer were collected", "", "give calibration data");
  }
  const auto count = static_cast<double>(samples);
  switch (metric) {
    case SensitivityMetric::kHessianInputActivation:
      return 2 * hessian_trace / count;
    case SensitivityMetric::kMeanActivationVariance:
      return mean_variance / count;
    case SensitivityMetric::kMaxActivationVariance:
      return max_variance / count;
    case SensitivityMetric::kMeanActivationMagnitude:
      return mean_magnitude / count;
    case SensitivityMetric::kWeightQuantizationError:
      break;
  }
  return 1;
}

double sensitivity(const at::Tensor& weight, int64_t ch_axis, SensitivityMetric metric,
                   const InputStatistics* statistics) {
  if (metric != SensitivityMetric::kWeightQuantizationError && statistics == nullptr) {
    throw Error(ErrorCode::kInvalidArgument, "this sensitivity metric needs statistics of the layer's inputs",
                "sensitivity_metric", "give a data set, or choose weight_quantization_error");
  }
  const double inputs = statistics == nullptr ? 1 : statistics->factor(metric);
  const Int8Error error = int8_error(weight, ch_axis);
  if (metric == SensitivityMetric::kHessianInputActivation) return std::sqrt(error.sum) * inputs;
  return inputs / (error.largest_mean + kErrorEps);
}

std::vector<bool> assign_precision(const std::vector<double>& scores, const std::vector<int64_t>& sizes, double ratio) {
  if (!(ratio >= 0 && ratio <= 1)) {
    throw Error(ErrorCode::kInvalidArgument, fmt::format("ratio is {}", ratio), "ratio", "give a number from 0 to 1");
  }
  const bool has_nan = std::any_of(scores.begin(), scores.end(), [](double score) { return std::isnan(score); });
  if (scores.size() != sizes.size() || has_nan) {
    throw Error(ErrorCode::kInvalidArgument, fmt::format("{} scores{} for {} weights", scores.size(),
                                                         has_nan ? ", NaN among them," : "", sizes.size()));
  }
  std::vector<bool> primary(scores.size(), ratio == 1);
  if (ratio == 1) return primary;
  std::vector<size_t> order(scores.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return scores[a] < scores[b]; });
  const auto total = static_cast<double>(std::accumulate(sizes.begin(), sizes.end(), int64_t{0}));
  int64_t taken = 0;
  for (const size_t i : order) {
    taken += sizes[i];
    if (static_cast<double>(taken) / total >= ratio) break;
    primary[i] = true;
  }
  return primary;
}

}  // namespace tsquant

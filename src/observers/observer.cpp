#include "tsquant/observer.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include "observers/histogram_observer.h"
#include "observers/moving_average_observer.h"
#include "observers/range_estimators.h"
#include "observers/replayable.h"
#include "tsquant/error.h"

namespace tsquant {

at::Tensor counter_tensor(int64_t batches, int64_t non_finite, int64_t not_a_number) {
  auto result = at::empty({3}, at::kLong);
  int64_t* data = result.data_ptr<int64_t>();
  data[0] = batches, data[1] = non_finite, data[2] = not_a_number;
  return result;
}

at::Tensor Observer::counters() const { return counter_tensor(batches_, non_finite_, not_a_number_); }

void Observer::set_counters(const at::Tensor& counters) {
  const auto dense = counters.contiguous();
  const int64_t* data = dense.data_ptr<int64_t>();
  batches_ = data[0], non_finite_ = data[1], not_a_number_ = data[2];
}

void Observer::add_counters(const Observer& other) {
  batches_ += other.batches_;
  non_finite_ += other.non_finite_;
  not_a_number_ += other.not_a_number_;
}

namespace {

void fill_missing(StatisticsCollectorParameters& params, const StatisticsCollectorParameters& defaults) {
  if (!params.statistics_type) params.statistics_type = defaults.statistics_type;
  if (!params.aggregator_type) params.aggregator_type = defaults.aggregator_type;
}

void check(const StatisticsCollectorParameters& params) {
  if (!(params.quantile_outlier_prob >= 0 && params.quantile_outlier_prob <= 0.5)) {
    throw Error(ErrorCode::kInvalidArgument, fmt::format("quantile_outlier_prob is {}", params.quantile_outlier_prob),
                "StatisticsCollectorParameters", "use 0 to 0.5");
  }
  if (params.clipping_value && !(*params.clipping_value > 0)) {
    throw Error(ErrorCode::kInvalidArgument, fmt::format("clipping_value is {}", *params.clipping_value),
                "StatisticsCollectorParameters", "use a positive value");
  }
}

bool is_histogram(const StatisticsCollectorParameters& params) {
  return params.aggregator_type == AggregatorType::kHistogram;
}

/// A histogram gives both bounds from the values as they are, so nothing else can be asked for (NNCF demands its set
/// HISTOGRAM as well).
void check_histogram(const RangeEstimatorParameters& params) {
  if (!is_histogram(params.min) && !is_histogram(params.max)) return;
  if (!is_histogram(params.min) || !is_histogram(params.max)) {
    throw Error(ErrorCode::kInvalidArgument, "a histogram gives both bounds", "RangeEstimatorParameters",
                "use it for min and max");
  }
  for (const auto* bound : {&params.min, &params.max}) {
    if (bound->statistics_type.value_or(StatisticsType::kRaw) == StatisticsType::kRaw && !bound->clipping_value) {
      continue;
    }
    throw Error(ErrorCode::kInvalidArgument, "the histogram aggregator works on raw values without clipping",
                "RangeEstimatorParameters", "use RangeEstimatorParameters::histogram()");
  }
}

/// NNCF, MinMaxQuantization._get_range_estimator_parameters and _get_statistic_collector.
std::unique_ptr<Observer> default_observer(const QuantizationSpec& spec, PointKind kind, bool batchwise,
                                           RangeEstimatorParameters params) {
  const bool is_weight = kind == PointKind::kWeight;
  check_histogram(params);
  const auto defaults =
      is_weight || spec.per_channel ? RangeEstimatorParameters::minmax() : RangeEstimatorParameters::mean_minmax();
  fill_missing(params.min, defaults.min);
  fill_missing(params.max, defaults.max);
  check(params.min);
  check(params.max);
  if (is_histogram(params.min)) {
    if (!spec.per_channel) return std::make_unique<HistogramObserver>();
    params = RangeEstimatorParameters::minmax();
  }
  if (params.min.statistics_type == StatisticsType::kRaw || params.max.statistics_type == StatisticsType::kRaw) {
    throw Error(ErrorCode::kInvalidArgument, "raw values need the histogram aggregator", "RangeEstimatorParameters");
  }
  if (spec.mode == QuantizationScheme::kSymmetric && params.max.statistics_type == StatisticsType::kMax) {
    params.max.statistics_type = StatisticsType::kAbsMax;
  }
  const auto axis = spec.per_channel ? c10::make_optional(spec.ch_axis) : c10::nullopt;
  return std::make_unique<RangeEstimatorObserver>(params, axis, batchwise && !is_weight);
}

}  // namespace

std::unique_ptr<Observer> make_observer(const QuantizationSpec& spec, PointKind kind, bool batchwise,
                                        const RangeEstimatorParameters& params) {
  const auto axis = spec.per_channel ? c10::make_optional(spec.ch_axis) : c10::nullopt;
  switch (spec.observer) {
    case ObserverKind::kDefault:
      return default_observer(spec, kind, batchwise, params);
    case ObserverKind::kMinMax:
    case ObserverKind::kPerChannelMinMax:
      return std::make_unique<RangeEstimatorObserver>(RangeEstimatorParameters::minmax(), axis, false);
    case ObserverKind::kMovingAverageMinMax:
    case ObserverKind::kMovingAveragePerChannelMinMax:
      return std::make_unique<MovingAverageObserver>(axis, spec.averaging_constant);
    case ObserverKind::kHistogram:
      // A histogram per channel would cost 16 KiB for each; NNCF falls back to min/max as well.
      if (axis) return std::make_unique<RangeEstimatorObserver>(RangeEstimatorParameters::minmax(), axis, false);
      return std::make_unique<HistogramObserver>();
  }
  throw Error(ErrorCode::kInternal, "unknown kind of observer");
}

}  // namespace tsquant

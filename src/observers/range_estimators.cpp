#include "observers/range_estimators.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <cmath>

#include "observers/saved_state.h"
#include "tsquant/error.h"

namespace tsquant {

namespace {

RangeEstimatorParameters both(StatisticsType low, StatisticsType high, AggregatorType min, AggregatorType max) {
  RangeEstimatorParameters params;
  params.min.statistics_type = low;
  params.min.aggregator_type = min;
  params.max.statistics_type = high;
  params.max.aggregator_type = max;
  return params;
}

/// Sequential, so that the result does not depend on the number of threads.
double row_mean(const float* row, int64_t count) {
  double sum = 0;
  for (int64_t i = 0; i < count; ++i) sum += row[i];
  return sum / static_cast<double>(count);
}

bool is_quantile(StatisticsType type) {
  return type == StatisticsType::kQuantile || type == StatisticsType::kAbsQuantile;
}

double row_quantile(const float* row, int64_t count, double q, bool magnitudes) {
  std::vector<float> values(row, row + count);
  if (magnitudes) {
    for (float& x : values) x = std::fabs(x);
  }
  return quantile(values, q);
}

at::Tensor clipped(const at::Tensor& bound, const StatisticsCollectorParameters& params) {
  return params.clipping_value ? bound.clamp(-*params.clipping_value, *params.clipping_value) : bound;
}

/// Freely chosen statistics may cross. Two causes do not count: clipping of one bound only, which then wins, and
/// rounding, since quantiles of constant data are interpolated.
void refuse_crossed_bounds(const at::Tensor& lower, const at::Tensor& upper, const RangeEstimatorParameters& params) {
  constexpr double kRounding = 1e-5;
  const auto low = clipped(lower, params.max), high = clipped(upper, params.min);
  const auto crossed = low - high > at::maximum(low.abs(), high.abs()) * kRounding;
  if (!crossed.any().item<bool>()) return;
  const auto first = crossed.to(c10::kByte).argmax();
  throw Error(ErrorCode::kInvalidArgument,
              fmt::format("the range estimator {} gives a lower bound of {:g} above the upper bound of {:g}",
                          describe(params), low.take(first).item<double>(), high.take(first).item<double>()),
              "", "choose statistics whose lower bound is the smaller one");
}

std::string describe(const StatisticsCollectorParameters& bound) {
  static const char* const kStatistics[] = {"min", "max", "abs_max", "quantile", "abs_quantile", "mean", "raw"};
  static const char* const kAggregators[] = {
      "min", "max", "mean", "median", "mean_no_outliers", "median_no_outliers", "histogram"};
  return fmt::format("({}, {}, clip={}, p={})",
                     bound.statistics_type ? kStatistics[static_cast<size_t>(*bound.statistics_type)] : "default",
                     bound.aggregator_type ? kAggregators[static_cast<size_t>(*bound.aggregator_type)] : "default",
                     bound.clipping_value ? fmt::to_string(*bound.clipping_value) : "none",
                     bound.quantile_outlier_prob);
}

}  // namespace

std::string describe(const RangeEstimatorParameters& estimator) {
  return fmt::format("min{} max{}", describe(estimator.min), describe(estimator.max));
}

bool is_set(const RangeEstimatorParameters& estimator) {
  return describe(estimator) != describe(RangeEstimatorParameters());
}

RangeEstimatorParameters RangeEstimatorParameters::minmax() {
  return both(StatisticsType::kMin, StatisticsType::kMax, AggregatorType::kMin, AggregatorType::kMax);
}
RangeEstimatorParameters RangeEstimatorParameters::mean_minmax() {
  return both(StatisticsType::kMin, StatisticsType::kMax, AggregatorType::kMean, AggregatorType::kMean);
}
RangeEstimatorParameters RangeEstimatorParameters::median_minmax() {
  return both(StatisticsType::kMin, StatisticsType::kMax, AggregatorType::kMedian, AggregatorType::kMedian);
}
RangeEstimatorParameters RangeEstimatorParameters::mean_no_outliers_minmax() {
  return both(StatisticsType::kMin, StatisticsType::kMax, AggregatorType::kMeanNoOutliers,
              AggregatorType::kMeanNoOutliers);
}
RangeEstimatorParameters RangeEstimatorParameters::mean_quantile() {
  return both(StatisticsType::kQuantile, StatisticsType::kQuantile, AggregatorType::kMean, AggregatorType::kMean);
}
RangeEstimatorParameters RangeEstimatorParameters::histogram() {
  return both(StatisticsType::kRaw, StatisticsType::kRaw, AggregatorType::kHistogram, AggregatorType::kHistogram);
}

at::Tensor reduce_rows(const at::Tensor& rows, StatisticsType type, double q) {
  if (type == StatisticsType::kMin) return row_extrema(rows).min;
  if (type == StatisticsType::kMax) return row_extrema(rows).max;
  if (type == StatisticsType::kAbsMax) {
    const auto extrema = row_extrema(rows);
    return at::maximum(extrema.max, -extrema.min);
  }
  auto result = at::empty({rows.size(0)}, at::kFloat);
  for (int64_t r = 0; r < rows.size(0); ++r) {
    const float* row = rows.data_ptr<float>() + r * rows.size(1);
    const double value = is_quantile(type) ? row_quantile(row, rows.size(1), q, type == StatisticsType::kAbsQuantile)
                                           : row_mean(row, rows.size(1));
    result.data_ptr<float>()[r] = static_cast<float>(value);
  }
  return result;
}

RangeEstimatorObserver::RangeEstimatorObserver(const RangeEstimatorParameters& params, c10::optional<int64_t> axis,
                                               bool per_item)
    : params_(params),
      axis_(axis),
      per_item_(per_item),
      min_(params.min.aggregator_type.value(), params.min.quantile_outlier_prob),
      max_(params.max.aggregator_type.value(), params.max.quantile_outlier_prob) {}

at::Tensor RangeEstimatorObserver::statistic(const at::Tensor& rows, const RowExtrema& extrema, bool upper) const {
  const auto& params = upper ? params_.max : params_.min;
  const auto type = params.statistics_type.value();
  if (params.clipping_value) {
    const double limit = *params.clipping_value;
    return reduce_rows(rows.clamp(-limit, limit), type,
                       upper ? 1 - params.quantile_outlier_prob : params.quantile_outlier_prob);
  }
  if (type == StatisticsType::kMin) return extrema.min;
  if (type == StatisticsType::kMax) return extrema.max;
  if (type == StatisticsType::kAbsMax) return at::maximum(extrema.max, -extrema.min);
  return reduce_rows(rows, type, upper ? 1 - params.quantile_outlier_prob : params.quantile_outlier_prob);
}

/// Row by row with NaN and infinite values left out; NaN for rows without a finite value.
at::Tensor RangeEstimatorObserver::statistic_of_finite(const at::Tensor& rows, bool upper) const {
  auto result = at::full({rows.size(0)}, NAN, at::kFloat);
  for (int64_t r = 0; r < rows.size(0); ++r) {
    const auto row = rows.select(0, r);
    const auto kept = row.masked_select(at::isfinite(row)).unsqueeze(0);
    if (kept.numel() > 0) result.select(0, r).copy_(statistic(kept, row_extrema(kept), upper).select(0, 0));
  }
  return result;
}

void RangeEstimatorObserver::observe(const at::Tensor& x) { replay(summary(x)); }

std::vector<at::Tensor> RangeEstimatorObserver::summary(const at::Tensor& x) const {
  const auto none = at::empty({0, 0}, at::kFloat);
  if (x.numel() == 0) return {counter_tensor(0, 0, 0), none, none};
  const auto rows = to_rows(x, axis_, per_item_);
  const std::vector<int64_t> shape{rows.items, rows.channels};
  const auto extrema = row_extrema(rows.values);
  if (extrema.finite()) {
    return {counter_tensor(1, 0, 0), statistic(rows.values, extrema, false).view(shape),
            statistic(rows.values, extrema, true).view(shape)};
  }
  const auto bad = count_non_finite(rows.values);
  const int64_t unusable = bad.nan + bad.infinite;
  if (unusable == rows.values.numel()) return {counter_tensor(0, unusable, bad.nan), none, none};
  return {counter_tensor(1, unusable, bad.nan), statistic_of_finite(rows.values, false).view(shape),
          statistic_of_finite(rows.values, true).view(shape)};
}

void RangeEstimatorObserver::replay(const std::vector<at::Tensor>& summary) {
  if (summary.at(1).numel() > 0) {
    min_.add(summary[1]);
    max_.add(summary.at(2));
  }
  set_counters(counters() + summary[0]);
}

void RangeEstimatorObserver::merge(const Observer& other) {
  const auto* same = dynamic_cast<const RangeEstimatorObserver*>(&other);
  if (!same) throw Error(ErrorCode::kInternal, "statistics of different kinds cannot be merged");
  min_.merge(same->min_);
  max_.merge(same->max_);
  add_counters(other);
}

Range RangeEstimatorObserver::range() const {
  if (batches_ == 0) throw Error(ErrorCode::kCalibration, "no values were observed");
  // A channel that never had a finite value gets the empty range at zero.
  const auto low = at::nan_to_num(min_.result(), 0.0), high = at::nan_to_num(max_.result(), 0.0);
  refuse_crossed_bounds(low, high, params_);
  return {at::minimum(low, high), high};
}

std::vector<at::Tensor> RangeEstimatorObserver::state() const {
  std::vector<at::Tensor> result{counters()};
  for (const auto* aggregator : {&min_, &max_}) {
    for (auto& tensor : aggregator->state()) result.push_back(tensor);
  }
  return result;
}

void RangeEstimatorObserver::set_state(const std::vector<at::Tensor>& state) {
  const SavedState saved(state, 1 + 2 * Aggregator::kStateTensors);
  set_counters(saved.counters(0));
  const auto middle = state.begin() + 1 + static_cast<std::ptrdiff_t>(Aggregator::kStateTensors);
  min_.set_state({state.begin() + 1, middle});
  max_.set_state({middle, state.end()});
  const int64_t channels = min_.channels();
  require_saved(max_.channels() == channels && (axis_ || channels <= 1) && (batches_ == 0 || channels > 0),
                "a range has a wrong number of channels");
}

}  // namespace tsquant

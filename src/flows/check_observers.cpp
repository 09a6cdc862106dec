#include "flows/check_observers.h"

#include <fmt/format.h>

#include <algorithm>

#include "observers/range_estimators.h"
#include "tsquant/error.h"

namespace tsquant {

namespace {

/// The points of one kind whose ranges are measured, and those of them with the observer that options can change.
struct ObservedPoints {
  int64_t all = 0;
  std::vector<const QuantizationPoint*> by_default;
};

ObservedPoints observed_points(const Annotations& annotations, PointKind kind) {
  ObservedPoints points;
  for (const auto& point : annotations.points) {
    if (point.kind != kind || !needs_statistics(point.spec)) continue;
    ++points.all;
    if (point.spec.observer == ObserverKind::kDefault) points.by_default.push_back(&point);
  }
  return points;
}

void require_reader(const ObservedPoints& points, const std::string& option, const char* tensors) {
  if (points.all == 0 || !points.by_default.empty()) return;
  throw Error(ErrorCode::kInvalidArgument,
              fmt::format("{} was given, but the quantizer chose how the ranges of all {} are found", option, tensors),
              option, "leave it out, or use a quantizer whose specs have ObserverKind::kDefault");
}

void check_estimator(const ObservedPoints& points, const RangeEstimatorParameters& estimator, const std::string& option,
                     const char* tensors, Report& report) {
  if (!is_set(estimator)) return;
  require_reader(points, option, tensors);
  if (estimator.max.aggregator_type != AggregatorType::kHistogram) return;
  const auto per_channel = std::count_if(points.by_default.begin(), points.by_default.end(),
                                         [](const QuantizationPoint* point) { return point->spec.per_channel; });
  if (per_channel == 0) return;
  report.warnings.push_back(
      fmt::format("{}: a histogram gives one range per tensor; {} of {} quantizers of {} have a range per channel and "
                  "use minimum and maximum",
                  option, per_channel, points.all, tensors));
}

}  // namespace

void check_observers(const Annotations& annotations, const QuantizePt2eOptions& options, Report& report) {
  const auto activations = observed_points(annotations, PointKind::kActivation);
  check_estimator(activations, options.activations_range_estimator_params, "activations_range_estimator_params",
                  "activations", report);
  check_estimator(observed_points(annotations, PointKind::kWeight), options.weights_range_estimator_params,
                  "weights_range_estimator_params", "weights", report);
  if (options.batchwise_statistics.value_or(false)) require_reader(activations, "batchwise_statistics", "activations");
}

}  // namespace tsquant

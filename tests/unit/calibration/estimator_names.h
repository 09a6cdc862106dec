#pragma once

#include <map>
#include <nlohmann/json.hpp>
#include <string>

#include "tsquant/range_estimator.h"

namespace tsquant::testing {

/// One bound of a range estimator as scripts/make_numerics_goldens.py writes it.
inline StatisticsCollectorParameters bound_of(const nlohmann::json& record) {
  static const std::map<std::string, StatisticsType> kStatistics{
      {"MIN", StatisticsType::kMin},        {"MAX", StatisticsType::kMax},
      {"ABS_MAX", StatisticsType::kAbsMax}, {"QUANTILE", StatisticsType::kQuantile},
      {"MEAN", StatisticsType::kMean},      {"ABS_QUANTILE", StatisticsType::kAbsQuantile},
      {"RAW", StatisticsType::kRaw}};
  static const std::map<std::string, AggregatorType> kAggregators{
      {"MIN", AggregatorType::kMin},
      {"MAX", AggregatorType::kMax},
      {"MEAN", AggregatorType::kMean},
      {"MEDIAN", AggregatorType::kMedian},
      {"HISTOGRAM", AggregatorType::kHistogram},
      {"MEAN_NO_OUTLIERS", AggregatorType::kMeanNoOutliers},
      {"MEDIAN_NO_OUTLIERS", AggregatorType::kMedianNoOutliers}};
  StatisticsCollectorParameters result;
  result.statistics_type = kStatistics.at(record["statistics"]);
  result.aggregator_type = kAggregators.at(record["aggregator"]);
  result.quantile_outlier_prob = record["prob"];
  return result;
}

/// Bounds that the record leaves out stay unset.
inline RangeEstimatorParameters estimator_of(const nlohmann::json& record) {
  RangeEstimatorParameters params;
  if (record.contains("min")) params.min = bound_of(record["min"]);
  if (record.contains("max")) params.max = bound_of(record["max"]);
  return params;
}

}  // namespace tsquant::testing

#pragma once

#include <c10/util/Optional.h>

namespace tsquant {

/// What is computed from one sample (NNCF's StatisticsType).
enum class StatisticsType {
  kMin,
  kMax,
  kAbsMax,       ///< largest magnitude
  kQuantile,     ///< quantile_outlier_prob for the lower bound, 1 - quantile_outlier_prob for the upper one
  kAbsQuantile,  ///< the same quantiles of the magnitudes
  kMean,
  kRaw,  ///< the values themselves; only for AggregatorType::kHistogram
};

/// How the statistics of many samples become one number (NNCF's AggregatorType).
enum class AggregatorType {
  kMin,
  kMax,
  kMean,
  kMedian,            ///< keeps one number per sample and channel until the end
  kMeanNoOutliers,    ///< mean of the samples inside the [p, 1 - p] quantiles over samples; keeps them like kMedian
  kMedianNoOutliers,  ///< median of the same samples
  /// Both bounds from a histogram of all values. Per tensor only: a tensor with a range per channel gets min and max,
  /// with a warning in the report, as in NNCF.
  kHistogram,
};

/// One bound of a range. Unset fields take the default of the tensor they are used for.
struct StatisticsCollectorParameters {
  c10::optional<StatisticsType> statistics_type = c10::nullopt;
  c10::optional<AggregatorType> aggregator_type = c10::nullopt;
  /// Values are limited to [-clipping_value, clipping_value] before anything is computed.
  c10::optional<double> clipping_value = c10::nullopt;
  double quantile_outlier_prob = 1e-4;  ///< for quantile statistics and no-outliers aggregators; [0, 0.5]
};

/// How the range of a tensor is estimated (NNCF's RangeEstimatorParameters). Bounds that come out the wrong way round,
/// the lower one above the upper one, are an Error kInvalidArgument that names the quantizer.
struct RangeEstimatorParameters {
  StatisticsCollectorParameters min;
  StatisticsCollectorParameters max;

  // The ready-made sets of NNCF's RangeEstimatorParametersSet.
  static RangeEstimatorParameters minmax();         ///< smallest and largest value of all samples
  static RangeEstimatorParameters mean_minmax();    ///< mean over samples of each sample's minimum and maximum
  static RangeEstimatorParameters median_minmax();  ///< median instead of mean
  /// mean over the samples whose extreme lies inside the quantiles, see kMeanNoOutliers
  static RangeEstimatorParameters mean_no_outliers_minmax();
  static RangeEstimatorParameters mean_quantile();  ///< mean over samples of each sample's quantiles
  static RangeEstimatorParameters histogram();      ///< smallest expected squared quantization error
};

}  // namespace tsquant

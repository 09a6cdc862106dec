#include "observers/range_estimators.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <algorithm>
#include <cmath>

#include "tsquant/error.h"
#include "tsquant/observer.h"

namespace tsquant {
namespace {

const std::vector<StatisticsType> kStatistics{StatisticsType::kMin,         StatisticsType::kMax,
                                              StatisticsType::kAbsMax,      StatisticsType::kQuantile,
                                              StatisticsType::kAbsQuantile, StatisticsType::kMean};
const std::vector<AggregatorType> kAggregators{AggregatorType::kMin,
                                               AggregatorType::kMax,
                                               AggregatorType::kMean,
                                               AggregatorType::kMedian,
                                               AggregatorType::kMeanNoOutliers,
                                               AggregatorType::kMedianNoOutliers};
constexpr double kProbability = 0.15;

using Values = std::vector<double>;

/// numpy.quantile of its definition: position q * (n - 1) in the sorted values, linear in between.
double plain_quantile(Values values, double q) {
  std::sort(values.begin(), values.end());
  const double position = q * (static_cast<double>(values.size()) - 1);
  const double below = std::floor(position);
  const auto first = static_cast<size_t>(below), second = std::min(first + 1, values.size() - 1);
  return values[first] * (1 - (position - below)) + values[second] * (position - below);
}

double plain_mean(const Values& values) {
  double sum = 0;
  for (double x : values) sum += x;
  return sum / static_cast<double>(values.size());
}

double plain_statistic(Values values, StatisticsType type, bool upper) {
  if (type == StatisticsType::kAbsMax || type == StatisticsType::kAbsQuantile) {
    for (double& x : values) x = std::abs(x);
  }
  switch (type) {
    case StatisticsType::kMin:
      return *std::min_element(values.begin(), values.end());
    case StatisticsType::kMax:
    case StatisticsType::kAbsMax:
      return *std::max_element(values.begin(), values.end());
    case StatisticsType::kMean:
      return plain_mean(values);
    default:
      return plain_quantile(values, upper ? 1 - kProbability : kProbability);
  }
}

double plain_aggregate(const Values& samples, AggregatorType type) {
  Values kept;
  const double low = plain_quantile(samples, kProbability), high = plain_quantile(samples, 1 - kProbability);
  for (double x : samples) {
    if (x >= low && x <= high) kept.push_back(x);
  }
  switch (type) {
    case AggregatorType::kMin:
      return *std::min_element(samples.begin(), samples.end());
    case AggregatorType::kMax:
      return *std::max_element(samples.begin(), samples.end());
    case AggregatorType::kMean:
      return plain_mean(samples);
    case AggregatorType::kMedian:
      return plain_quantile(samples, 0.5);
    case AggregatorType::kMeanNoOutliers:
      return plain_mean(kept);
    default:
      return plain_quantile(kept, 0.5);
  }
}

std::vector<at::Tensor> batches() {
  torch::manual_seed(9);
  std::vector<at::Tensor> result;
  for (int i = 0; i < 7; ++i) result.push_back(torch::randn({3, 2, 5}) * (1 + i) + 0.3 * i);
  return result;
}

Values values_of(const at::Tensor& x) {
  const auto flat = x.to(at::kDouble).contiguous().flatten();
  return {flat.data_ptr<double>(), flat.data_ptr<double>() + flat.numel()};
}

/// The tensors whose statistics are aggregated, for one channel (-1: all of them).
std::vector<at::Tensor> samples_of(bool per_item, int64_t channel) {
  std::vector<at::Tensor> result;
  for (const auto& batch : batches()) {
    const auto part = channel < 0 ? batch : batch.select(1, channel);
    if (!per_item) {
      result.push_back(part);
      continue;
    }
    for (int64_t i = 0; i < part.size(0); ++i) result.push_back(part[i]);
  }
  return result;
}

double plain_bound(bool per_item, int64_t channel, StatisticsType statistic, AggregatorType aggregator, bool upper) {
  Values statistics;
  for (const auto& sample : samples_of(per_item, channel)) {
    statistics.push_back(plain_statistic(values_of(sample), statistic, upper));
  }
  return plain_aggregate(statistics, aggregator);
}

Range observed(const RangeEstimatorParameters& params, bool per_item, bool per_channel) {
  QuantizationSpec spec;
  spec.mode = QuantizationScheme::kAsymmetric;
  spec.per_channel = per_channel;
  spec.ch_axis = 1;
  auto observer = make_observer(spec, PointKind::kActivation, per_item, params);
  for (const auto& batch : batches()) observer->observe(batch);
  return observer->range();
}

TEST(RangeEstimators, EveryPairMeetsAPlainComputation) {
  for (const auto statistic : kStatistics) {
    for (const auto aggregator : kAggregators) {
      for (const bool per_item : {false, true}) {
        for (const bool per_channel : {false, true}) {
          RangeEstimatorParameters params;
          for (auto* bound : {&params.min, &params.max}) {
            bound->statistics_type = statistic;
            bound->aggregator_type = aggregator;
            bound->quantile_outlier_prob = kProbability;
          }
          const auto range = observed(params, per_item, per_channel);
          ASSERT_EQ(range.max.numel(), per_channel ? 2 : 1);
          for (int64_t c = 0; c < range.max.numel(); ++c) {
            const int64_t channel = per_channel ? c : -1;
            const double high = plain_bound(per_item, channel, statistic, aggregator, true);
            const double low = plain_bound(per_item, channel, statistic, aggregator, false);
            const auto what = ::testing::Message()
                              << "statistic " << static_cast<int>(statistic) << ", aggregator "
                              << static_cast<int>(aggregator) << ", item " << per_item << ", channel " << channel;
            EXPECT_NEAR(range.max[c].item<double>(), high, 1e-6 * std::max(1.0, std::abs(high))) << what;
            EXPECT_NEAR(range.min[c].item<double>(), low, 1e-6 * std::max(1.0, std::abs(low))) << what;
          }
        }
      }
    }
  }
}

TEST(RangeEstimators, TheReadySetsAreThoseOfNncf) {
  struct Set {
    RangeEstimatorParameters params;
    StatisticsType low, high;
    AggregatorType min, max;
  };
  using S = StatisticsType;
  using A = AggregatorType;
  const std::vector<Set> sets{
      {RangeEstimatorParameters::minmax(), S::kMin, S::kMax, A::kMin, A::kMax},
      {RangeEstimatorParameters::mean_minmax(), S::kMin, S::kMax, A::kMean, A::kMean},
      {RangeEstimatorParameters::median_minmax(), S::kMin, S::kMax, A::kMedian, A::kMedian},
      {RangeEstimatorParameters::mean_no_outliers_minmax(), S::kMin, S::kMax, A::kMeanNoOutliers, A::kMeanNoOutliers},
      {RangeEstimatorParameters::mean_quantile(), S::kQuantile, S::kQuantile, A::kMean, A::kMean},
      {RangeEstimatorParameters::histogram(), S::kRaw, S::kRaw, A::kHistogram, A::kHistogram}};
  for (const auto& set : sets) {
    EXPECT_EQ(set.params.min.statistics_type, set.low);
    EXPECT_EQ(set.params.max.statistics_type, set.high);
    EXPECT_EQ(set.params.min.aggregator_type, set.min);
    EXPECT_EQ(set.params.max.aggregator_type, set.max);
    EXPECT_EQ(set.params.min.quantile_outlier_prob, 1e-4);
    EXPECT_FALSE(set.params.max.clipping_value);
    const auto range = observed(set.params, false, false);
    EXPECT_LT(range.min.item<float>(), range.max.item<float>());
  }
}

TEST(RangeEstimators, PairsWithoutMeaningSayWhy) {
  const auto message_of = [](StatisticsType statistic, AggregatorType aggregator, c10::optional<double> clip = {}) {
    RangeEstimatorParameters params;
    for (auto* bound : {&params.min, &params.max}) {
      bound->statistics_type = statistic;
      bound->aggregator_type = aggregator;
      bound->clipping_value = clip;
    }
    try {
      observed(params, false, false);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
      return error.message();
    }
    return std::string("no error");
  };
  for (const auto aggregator : kAggregators) {
    EXPECT_EQ(message_of(StatisticsType::kRaw, aggregator), "raw values need the histogram aggregator");
  }
  const std::string raw_only = "the histogram aggregator works on raw values without clipping";
  for (const auto statistic : kStatistics) EXPECT_EQ(message_of(statistic, AggregatorType::kHistogram), raw_only);
  EXPECT_EQ(message_of(StatisticsType::kRaw, AggregatorType::kHistogram, 1.0), raw_only);
  EXPECT_EQ(message_of(StatisticsType::kRaw, AggregatorType::kHistogram), "no error");
}

TEST(RangeEstimators, BoundsTheWrongWayRoundAreRefused) {
  RangeEstimatorParameters params;
  params.min = {StatisticsType::kMax, AggregatorType::kMax};
  params.max = {StatisticsType::kMin, AggregatorType::kMin};
  for (const bool per_channel : {false, true}) {
    try {
      observed(params, false, per_channel);
      ADD_FAILURE() << "nothing was thrown";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
      EXPECT_EQ(error.message().find("the range estimator min(max, max, "), 0u) << error.what();
      EXPECT_NE(error.message().find(" gives a lower bound of "), std::string::npos) << error.what();
    }
  }
}

TEST(RangeEstimators, ConstantDataAreNoRangeTheWrongWayRound) {
  QuantizationSpec spec;
  spec.mode = QuantizationScheme::kAsymmetric;
  for (const auto& params :
       {RangeEstimatorParameters::minmax(), RangeEstimatorParameters::mean_minmax(),
        RangeEstimatorParameters::median_minmax(), RangeEstimatorParameters::mean_no_outliers_minmax(),
        RangeEstimatorParameters::mean_quantile()}) {
    auto observer = make_observer(spec, PointKind::kActivation, false, params);
    for (int i = 0; i < 5; ++i) observer->observe(torch::full({7, 3}, 0.1f));
    const auto range = observer->range();
    EXPECT_LE(range.min.item<float>(), range.max.item<float>());
    EXPECT_NEAR(range.max.item<float>(), 0.1, 1e-6);
  }
}

TEST(RangeEstimators, ABoundThatWasClippedAloneWins) {
  QuantizationSpec spec;
  spec.mode = QuantizationScheme::kAsymmetric;
  RangeEstimatorParameters params;
  params.max.clipping_value = 1.5;
  auto observer = make_observer(spec, PointKind::kWeight, false, params);
  observer->observe(torch::tensor({2.f, 5.f}));
  EXPECT_EQ(observer->range().max.item<float>(), 1.5f);
  EXPECT_EQ(observer->range().min.item<float>(), 1.5f);
}

TEST(RangeEstimators, ClippingComesFirst) {
  RangeEstimatorParameters params = RangeEstimatorParameters::mean_minmax();
  params.min.clipping_value = params.max.clipping_value = 1.5;
  Values lows, highs;
  for (const auto& batch : batches()) {
    lows.push_back(batch.clamp(-1.5, 1.5).min().item<double>());
    highs.push_back(batch.clamp(-1.5, 1.5).max().item<double>());
  }
  const auto range = observed(params, false, false);
  EXPECT_FLOAT_EQ(range.min.item<float>(), static_cast<float>(plain_mean(lows)));
  EXPECT_FLOAT_EQ(range.max.item<float>(), static_cast<float>(plain_mean(highs)));
}

TEST(Describe, NamesTheFieldsOfAnEstimator) {
  EXPECT_EQ(describe(RangeEstimatorParameters{}),
            "min(default, default, clip=none, p=0.0001) max(default, default, "
            "clip=none, p=0.0001)");
  auto estimator = RangeEstimatorParameters::mean_quantile();
  estimator.max.clipping_value = 2.5;
  EXPECT_EQ(describe(estimator), "min(quantile, mean, clip=none, p=0.0001) max(quantile, mean, clip=2.5, p=0.0001)");
}

}  // namespace
}  // namespace tsquant

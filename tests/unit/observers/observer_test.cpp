#include "tsquant/observer.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include "tsquant/error.h"

namespace tsquant {
namespace {

const std::vector<ObserverKind> kKinds{ObserverKind::kDefault,
                                       ObserverKind::kMinMax,
                                       ObserverKind::kPerChannelMinMax,
                                       ObserverKind::kMovingAverageMinMax,
                                       ObserverKind::kMovingAveragePerChannelMinMax,
                                       ObserverKind::kHistogram};

QuantizationSpec spec_of(ObserverKind kind, bool per_channel = false) {
  QuantizationSpec spec;
  spec.observer = kind;
  spec.mode = QuantizationScheme::kAsymmetric;
  spec.per_channel = per_channel;
  spec.ch_axis = 1;
  return spec;
}

/// Calls `test` with every observer that make_observer can build.
void for_each_observer(const std::function<void(Observer&)>& test) {
  for (auto kind : kKinds) {
    for (bool per_channel : {false, true}) {
      for (bool batchwise : {false, true}) {
        auto observer = make_observer(spec_of(kind, per_channel), PointKind::kActivation, batchwise);
        SCOPED_TRACE(::testing::Message() << "kind " << static_cast<int>(kind) << " per_channel " << per_channel
                                          << " batchwise " << batchwise);
        test(*observer);
      }
    }
  }
}

float low(const Observer& observer) { return observer.range().min.min().item<float>(); }
float high(const Observer& observer) { return observer.range().max.max().item<float>(); }

TEST(Observer, EmptyTensorsAreIgnored) {
  for_each_observer([](Observer& observer) {
    observer.observe(torch::empty({0, 3, 2}));
    EXPECT_EQ(observer.batches(), 0);
    EXPECT_THROW(observer.range(), Error);
    observer.observe(torch::full({2, 3, 2}, 1.5f));
    observer.observe(torch::empty({2, 3, 0}));
    EXPECT_EQ(observer.batches(), 1);
    EXPECT_EQ(low(observer), 1.5f);
  });
}

TEST(Observer, ConstantDataGiveARangeOfWidthZero) {
  for_each_observer([](Observer& observer) {
    for (int i = 0; i < 3; ++i) observer.observe(torch::full({2, 3, 4}, -2.25f));
    EXPECT_EQ(low(observer), -2.25f);
    EXPECT_EQ(high(observer), -2.25f);
  });
}

TEST(Observer, NonFiniteValuesAreCountedAndLeftOut) {
  for_each_observer([](Observer& observer) {
    auto x = torch::linspace(-1, 1, 24).reshape({2, 3, 4}).clone();
    x[0][0][0] = NAN;
    x[1][2][3] = INFINITY;
    x[1][1][1] = -INFINITY;
    observer.observe(x);
    EXPECT_EQ(observer.non_finite(), 3);
    EXPECT_EQ(observer.not_a_number(), 1);
    EXPECT_EQ(observer.batches(), 1);
    EXPECT_GE(low(observer), -1.0f);
    EXPECT_LT(low(observer), 0.0f);
    EXPECT_LE(high(observer), 1.0f);
    EXPECT_GT(high(observer), 0.0f);
  });
}

TEST(Observer, OnlyNonFiniteValuesAreNoObservation) {
  for_each_observer([](Observer& observer) {
    observer.observe(torch::full({2, 3}, NAN));
    EXPECT_EQ(observer.non_finite(), 6);
    EXPECT_EQ(observer.batches(), 0);
    EXPECT_THROW(observer.range(), Error);
  });
}

TEST(Observer, SingleElementAndHugeValues) {
  for_each_observer([](Observer& observer) {
    observer.observe(torch::full({1, 3, 1}, 3e38f));
    EXPECT_EQ(high(observer), 3e38f);
    observer.observe(torch::full({1, 3, 1}, -3e38f));
    EXPECT_TRUE(std::isfinite(low(observer)) && std::isfinite(high(observer)));
    EXPECT_LE(low(observer), high(observer));
  });
}

TEST(Observer, StateRoundTripContinuesExactly) {
  torch::manual_seed(3);
  const auto a = torch::randn({4, 3, 5}), b = torch::randn({4, 3, 5}) * 2;
  for (auto kind : kKinds) {
    for (bool per_channel : {false, true}) {
      const auto spec = spec_of(kind, per_channel);
      auto first = make_observer(spec, PointKind::kActivation), second = make_observer(spec, PointKind::kActivation);
      first->observe(a);
      second->set_state(first->state());
      first->observe(b);
      second->observe(b);
      EXPECT_TRUE(at::equal(first->range().min, second->range().min));
      EXPECT_TRUE(at::equal(first->range().max, second->range().max));
      EXPECT_EQ(first->batches(), second->batches());
    }
  }
}

TEST(Observer, DefaultsOfNncf) {
  const auto a = torch::tensor({-1.0f, 3.0f}), b = torch::tensor({-4.0f, 1.0f});
  const auto run = [&](QuantizationScheme mode, PointKind kind) {
    QuantizationSpec spec;
    spec.mode = mode;
    auto observer = make_observer(spec, kind);
    observer->observe(a);
    observer->observe(b);
    return std::make_pair(low(*observer), high(*observer));
  };
  EXPECT_EQ(run(QuantizationScheme::kAsymmetric, PointKind::kActivation), std::make_pair(-2.5f, 2.0f));
  EXPECT_EQ(run(QuantizationScheme::kSymmetric, PointKind::kActivation), std::make_pair(-2.5f, 3.5f));
  EXPECT_EQ(run(QuantizationScheme::kAsymmetric, PointKind::kWeight), std::make_pair(-4.0f, 3.0f));
  EXPECT_EQ(run(QuantizationScheme::kSymmetric, PointKind::kWeight), std::make_pair(-4.0f, 4.0f));
}

TEST(Observer, BatchwiseTakesEachItemAsASample) {
  const auto x = torch::tensor({{-1.0f, 1.0f}, {-3.0f, 5.0f}});
  auto whole = make_observer(spec_of(ObserverKind::kDefault), PointKind::kActivation, false);
  auto items = make_observer(spec_of(ObserverKind::kDefault), PointKind::kActivation, true);
  whole->observe(x);
  items->observe(x);
  EXPECT_EQ(low(*whole), -3.0f);
  EXPECT_EQ(low(*items), -2.0f);
  EXPECT_EQ(high(*items), 3.0f);
}

TEST(Observer, PerChannelFollowsTheAxis) {
  auto spec = spec_of(ObserverKind::kMinMax, true);
  const auto x = torch::arange(24, at::kFloat).reshape({2, 3, 4});
  for (int64_t axis : {0, 1, 2, -1}) {
    spec.ch_axis = axis;
    auto observer = make_observer(spec, PointKind::kWeight);
    observer->observe(x);
    const auto flat = x.movedim(axis, 0).reshape({x.size(axis), -1});
    EXPECT_TRUE(at::equal(observer->range().min, at::amin(flat, {1})));
    EXPECT_TRUE(at::equal(observer->range().max, at::amax(flat, {1})));
  }
}

TEST(Observer, ChannelProblemsAreErrors) {
  for (auto kind : {ObserverKind::kMinMax, ObserverKind::kMovingAverageMinMax}) {
    auto observer = make_observer(spec_of(kind, true), PointKind::kActivation);
    try {
      observer->observe(torch::ones({4}));
      FAIL();
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kCalibration);
      EXPECT_NE(error.message().find("axis 1"), std::string::npos);
    }
    observer->observe(torch::ones({2, 3}));
    EXPECT_THROW(observer->observe(torch::ones({2, 4})), Error);
  }
}

TEST(Observer, OtherLayoutsAndTypes) {
  torch::manual_seed(8);
  const auto x = torch::randn({2, 3, 4, 5});
  for (const auto& same : {x.contiguous(at::MemoryFormat::ChannelsLast), x.to(at::kDouble), x.transpose(2, 3)}) {
    for (bool batchwise : {false, true}) {
      auto expected = make_observer(spec_of(ObserverKind::kDefault), PointKind::kActivation, batchwise);
      auto observer = make_observer(spec_of(ObserverKind::kDefault), PointKind::kActivation, batchwise);
      expected->observe(x);
      observer->observe(same);
      EXPECT_EQ(low(*observer), low(*expected));
      EXPECT_EQ(high(*observer), high(*expected));
    }
  }
  auto half = make_observer(spec_of(ObserverKind::kHistogram), PointKind::kActivation);
  half->observe(torch::tensor({0.5f, 1.5f}).to(at::kHalf));
  EXPECT_GE(low(*half), 0.5f);
}

TEST(RangeEstimator, EveryFieldChangesTheRange) {
  torch::manual_seed(2);
  std::vector<at::Tensor> samples;
  for (int i = 0; i < 9; ++i) samples.push_back(torch::randn({200}) * (1 + i));
  const auto run = [&](const RangeEstimatorParameters& params) {
    auto observer = make_observer(spec_of(ObserverKind::kDefault), PointKind::kActivation, false, params);
    for (const auto& x : samples) observer->observe(x);
    return high(*observer);
  };
  const float mean = run({}), largest = run(RangeEstimatorParameters::minmax());
  EXPECT_EQ(mean, run(RangeEstimatorParameters::mean_minmax()));
  EXPECT_LT(mean, largest);
  EXPECT_LT(run(RangeEstimatorParameters::median_minmax()), largest);
  EXPECT_LT(run(RangeEstimatorParameters::mean_no_outliers_minmax()), largest);
  EXPECT_LT(run(RangeEstimatorParameters::histogram()), largest * 1.0001f);
  auto quantile = RangeEstimatorParameters::mean_quantile();
  const float fine = run(quantile);
  quantile.max.quantile_outlier_prob = 0.1;
  EXPECT_LT(run(quantile), fine);
  RangeEstimatorParameters clipped;
  clipped.max.clipping_value = 0.5;
  EXPECT_EQ(run(clipped), 0.5f);
  RangeEstimatorParameters only_max;
  only_max.max.aggregator_type = AggregatorType::kMax;
  EXPECT_EQ(run(only_max), largest);
}

TEST(RangeEstimator, RefusesCombinationsWithoutMeaning) {
  const auto make = [](const RangeEstimatorParameters& params) {
    return make_observer(QuantizationSpec{}, PointKind::kActivation, false, params);
  };
  RangeEstimatorParameters params;
  params.min.aggregator_type = AggregatorType::kHistogram;
  EXPECT_THROW(make(params), Error);
  params = {};
  params.max.statistics_type = StatisticsType::kRaw;
  EXPECT_THROW(make(params), Error);
  params = {};
  params.max.quantile_outlier_prob = 0.7;
  EXPECT_THROW(make(params), Error);
  params = {};
  params.min.clipping_value = -1;
  EXPECT_THROW(make(params), Error);
}

}  // namespace
}  // namespace tsquant

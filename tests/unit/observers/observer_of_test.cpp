// The way from a module to the stages after calibration: what it observed, as an Observer.
#include <gtest/gtest.h>

#include <cmath>

#include "numerics/qparams.h"
#include "observers/histogram_observer.h"
#include "observers/modules/observer_of.h"
#include "observers/quantile_range_observer.h"
#include "observers/range_estimators.h"
#include "tsquant/error.h"
#include "unit/observers/module_golden.h"

namespace tsquant {
namespace {

using testing::run;

std::vector<at::Tensor> batches(int64_t count) {
  torch::manual_seed(1);
  std::vector<at::Tensor> result;
  for (int64_t i = 0; i < count; ++i) result.push_back(torch::randn({4, 3, 5}) * (1 + 0.3 * i) + 0.1);
  return result;
}

void expect_equal(const Range& a, const Range& b, const std::string& what) {
  EXPECT_TRUE(at::equal(a.min, b.min)) << what << a.min << b.min;
  EXPECT_TRUE(at::equal(a.max, b.max)) << what << a.max << b.max;
}

QuantizationSpec torch_ao_spec(ObserverKind observer, QuantizationScheme mode, bool per_channel) {
  QuantizationSpec spec;
  spec.formula = QParamsFormula::kTorchAo;
  spec.observer = observer, spec.mode = mode, spec.per_channel = per_channel;
  spec.ch_axis = per_channel ? 1 : 0;
  return spec;
}

std::vector<QuantizationSpec> torch_ao_specs() {
  std::vector<QuantizationSpec> specs;
  for (const auto mode : {QuantizationScheme::kSymmetric, QuantizationScheme::kAsymmetric}) {
    for (const auto kind : {ObserverKind::kMinMax, ObserverKind::kMovingAverageMinMax, ObserverKind::kHistogram}) {
      specs.push_back(torch_ao_spec(kind, mode, false));
    }
    for (const auto kind : {ObserverKind::kPerChannelMinMax, ObserverKind::kMovingAveragePerChannelMinMax}) {
      specs.push_back(torch_ao_spec(kind, mode, true));
    }
  }
  return specs;
}

TEST(ObserverOf, ScalesAreThoseOfTheModule) {
  for (auto spec : torch_ao_specs()) {
    for (const auto dtype : {c10::optional<c10::ScalarType>(), {c10::kByte}, {c10::kChar}}) {
      for (const auto rule : {HistogramRule::kTorch2, HistogramRule::kTorch1_13}) {
        spec.dtype = dtype, spec.histogram_rule = rule;
        auto module = make_observer_module(observer_config_of(spec, PointKind::kActivation));
        for (const auto& x : batches(4)) run(module, x);
        const auto observer = observer_of(module, spec, PointKind::kActivation);
        ASSERT_TRUE(observer);
        const auto q = choose_qparams(observer->range(), spec, PointKind::kActivation);
        const auto expected = calculate_qparams(module);
        EXPECT_TRUE(at::equal(q.scale, expected.scale)) << q.scale << expected.scale;
        EXPECT_TRUE(at::equal(q.zero_point, expected.zero_point)) << q.zero_point << expected.zero_point;
      }
    }
  }
}

/// A module and an observer of the library see the same batches.
TEST(ObserverOf, RangesAreThoseOfTheLibrarysObservers) {
  for (auto spec : torch_ao_specs()) {
    auto module = make_observer_module(observer_config_of(spec, PointKind::kActivation));
    const auto expected = make_observer(spec, PointKind::kActivation);
    for (const auto& x : batches(6)) {
      run(module, x);
      expected->observe(x);
    }
    expect_equal(observer_of(module, spec, PointKind::kActivation)->range(), expected->range(),
                 std::to_string(static_cast<int>(spec.observer)));
  }
}

TEST(ObserverOf, AHistogramHoldsTheSameCounts) {
  const auto spec = torch_ao_spec(ObserverKind::kHistogram, QuantizationScheme::kAsymmetric, false);
  auto module = make_observer_module(observer_config_of(spec, PointKind::kActivation));
  HistogramObserver expected;
  const std::vector<at::Tensor> odd{torch::full({3}, 2.0F), torch::tensor({NAN, 1.0F, INFINITY}), torch::tensor({NAN}),
                                    torch::full({2}, 1e30F), torch::tensor({-3e38F, 3e38F})};
  auto data = batches(20);
  data.insert(data.end(), odd.begin(), odd.end());
  for (const auto& x : data) {
    run(module, x);
    expected.observe(x);
    EXPECT_TRUE(at::equal(module.attr("histogram").toTensor(), at::tensor(expected.histogram().counts(), at::kDouble)));
    EXPECT_EQ(module.attr("min_val").toTensor().item<float>(), expected.histogram().min());
    EXPECT_EQ(module.attr("max_val").toTensor().item<float>(), expected.histogram().max());
  }
  auto found = observer_of(module, spec, PointKind::kActivation);
  expect_equal(found->range(), expected.range(), "histogram");
  found->merge(expected);
  EXPECT_NEAR(
      at::tensor(dynamic_cast<HistogramObserver&>(*found).histogram().counts(), at::kDouble).sum().item<double>(),
      2 * module.attr("histogram").toTensor().sum().item<double>(), 1e-6);
}

/// Of torch.ao: float32 counts, limits of one dimension.
TEST(ObserverOf, ALoadedHistogramIsContinued) {
  const auto spec = torch_ao_spec(ObserverKind::kHistogram, QuantizationScheme::kAsymmetric, false);
  auto module = make_observer_module(observer_config_of(spec, PointKind::kActivation));
  const auto data = batches(2);
  run(module, data[0]);
  auto loaded = make_observer_module(observer_config_of(spec, PointKind::kActivation));
  for (const auto* name : {"histogram", "min_val", "max_val"}) {
    const auto value = module.attr(name).toTensor().to(at::kFloat);
    loaded.setattr(name, (value.dim() == 0 ? value.reshape({1}) : value).clone());
  }
  run(module, data[1]);
  run(loaded, data[1]);
  expect_equal(observer_of(loaded, spec, PointKind::kActivation)->range(),
               observer_of(module, spec, PointKind::kActivation)->range(), "loaded");
}

TEST(ObserverOf, AHistogramWithOtherBinsGivesItsRange) {
  ObserverConfig config;
  config.type = ObserverType::kHistogram, config.bins = 100;
  auto module = make_observer_module(config);
  for (const auto& x : batches(3)) run(module, x);
  const auto spec = torch_ao_spec(ObserverKind::kHistogram, QuantizationScheme::kAsymmetric, false);
  const auto q =
      choose_qparams(observer_of(module, spec, PointKind::kActivation)->range(), spec, PointKind::kActivation);
  EXPECT_TRUE(at::equal(q.scale, calculate_qparams(module).scale));
}

/// NNCF's rule needs every batch.
TEST(ObserverOf, SampleExtremaGiveNncfsRange) {
  for (const auto mode : {QuantizationScheme::kSymmetric, QuantizationScheme::kAsymmetric}) {
    QuantizationSpec spec;
    spec.mode = mode;
    const auto config = observer_config_of(spec, PointKind::kActivation);
    EXPECT_EQ(config.type, ObserverType::kSampleExtrema);
    auto module = make_observer_module(config);
    const auto expected = make_observer(spec, PointKind::kActivation);
    auto data = batches(30);
    data.push_back(torch::tensor({NAN, 3.0F, -INFINITY, NAN}));
    data.push_back(torch::tensor({NAN}));
    data.push_back(torch::tensor({2.0, 1e300}, at::kDouble));
    data.push_back(torch::empty({0}));
    for (const auto& x : data) {
      run(module, x);
      expected->observe(x);
    }
    const auto found = observer_of(module, spec, PointKind::kActivation);
    expect_equal(found->range(), expected->range(), "samples");
    EXPECT_EQ(found->batches(), expected->batches());
    EXPECT_EQ(found->non_finite(), expected->non_finite());
    EXPECT_EQ(found->not_a_number(), expected->not_a_number());
    EXPECT_THROW(calculate_qparams(module), Error);
  }
}

TEST(ObserverOf, OnlyUnusableValuesAreCounted) {
  const QuantizationSpec spec;
  auto module = make_observer_module(observer_config_of(spec, PointKind::kActivation));
  run(module, torch::tensor({NAN, INFINITY}));
  const auto found = observer_of(module, spec, PointKind::kActivation);
  ASSERT_TRUE(found);
  EXPECT_EQ(found->non_finite(), 2);
  EXPECT_EQ(found->not_a_number(), 1);
  EXPECT_THROW(found->range(), Error);
}

/// quantize_pt2e's own rule for 100 and more samples.
TEST(ObserverOf, SampleExtremaServeOtherRules) {
  ObserverConfig config;
  config.type = ObserverType::kSampleExtrema;
  auto module = make_observer_module(config);
  QuantileRangeObserver expected(RangeEstimatorParameters::mean_minmax(), false, true);
  QuantileRangeObserver found(RangeEstimatorParameters::mean_minmax(), false, true);
  for (const auto& x : batches(120)) {
    run(module, x);
    expected.observe(x);
  }
  observe_samples(module, found);
  expect_equal(found.range(), expected.range(), "quantiles");
}

TEST(ObserverOf, DefaultsOfWeightsAndChannelsAreMinAndMax) {
  QuantizationSpec spec;
  for (const bool per_channel : {false, true}) {
    for (const auto kind : {PointKind::kWeight, PointKind::kActivation}) {
      spec.per_channel = per_channel, spec.ch_axis = per_channel ? 1 : 0;
      if (kind == PointKind::kActivation && !per_channel) continue;
      const auto config = observer_config_of(spec, kind);
      EXPECT_EQ(config.type, per_channel ? ObserverType::kPerChannelMinMax : ObserverType::kMinMax);
      auto module = make_observer_module(config);
      const auto expected = make_observer(spec, kind);
      const auto x = batches(1)[0];
      run(module, x);
      expected->observe(x);
      expect_equal(observer_of(module, spec, kind)->range(), expected->range(), "weight");
    }
  }
}

TEST(ObserverOf, FakeQuantizesAreReadThroughTheirObserver) {
  for (const auto fake : {FakeQuantizeType::kFakeQuantize, FakeQuantizeType::kFusedMovingAvgObs}) {
    for (const bool per_channel : {false, true}) {
      QuantizationSpec spec = torch_ao_spec(ObserverKind::kDefault, QuantizationScheme::kSymmetric, per_channel);
      spec.fake_quantize = fake, spec.dtype = c10::kChar;
      auto module = make_observer_module(observer_config_of(spec, PointKind::kActivation));
      for (const auto& x : batches(5)) run(module, x);
      const auto q =
          choose_qparams(observer_of(module, spec, PointKind::kActivation)->range(), spec, PointKind::kActivation);
      EXPECT_TRUE(at::equal(q.scale, calculate_qparams(module).scale));
    }
  }
}

TEST(ObserverOf, LearnedScalesAreKept) {
  for (const auto mode : {QuantizationScheme::kSymmetric, QuantizationScheme::kAsymmetric}) {
    for (const bool per_channel : {false, true}) {
      auto spec =
          torch_ao_spec(per_channel ? ObserverKind::kPerChannelMinMax : ObserverKind::kMinMax, mode, per_channel);
      spec.fake_quantize = FakeQuantizeType::kLearnable, spec.dtype = c10::kChar;
      auto module = make_observer_module(observer_config_of(spec, PointKind::kWeight));
      run(module, batches(1)[0]);
      disable_observer(module);
      const torch::NoGradGuard no_grad;
      module.attr("scale").toTensor().mul_(0.7);
      const auto q = choose_qparams(observer_of(module, spec, PointKind::kWeight)->range(), spec, PointKind::kWeight);
      const auto expected = calculate_qparams(module);
      EXPECT_TRUE(at::allclose(q.scale, expected.scale, 1e-6, 0)) << q.scale << expected.scale;
      EXPECT_TRUE(at::equal(q.zero_point, expected.zero_point));
      EXPECT_TRUE(at::equal(expected.scale, module.attr("scale").toTensor()));
    }
  }
}

TEST(ObserverOf, NothingSeenIsNoObserver) {
  for (const auto& spec : torch_ao_specs()) {
    const auto module = make_observer_module(observer_config_of(spec, PointKind::kActivation));
    EXPECT_FALSE(observer_of(module, spec, PointKind::kActivation));
    const auto q = calculate_qparams(module);
    EXPECT_FALSE(q.observed);
    EXPECT_TRUE(at::equal(q.scale, torch::ones({1})) && at::equal(q.zero_point, torch::zeros({1}, at::kLong)));
  }
  QuantizationSpec spec;
  EXPECT_FALSE(observer_of(make_observer_module(observer_config_of(spec, PointKind::kActivation)), spec,
                           PointKind::kActivation));
  spec.fixed_scale = 0.5;
  EXPECT_FALSE(observer_of(make_observer_module(observer_config_of(spec, PointKind::kActivation)), spec,
                           PointKind::kActivation));
}

TEST(ObserverOf, ModuleAndSpecBelongTogether) {
  const auto spec = torch_ao_spec(ObserverKind::kPerChannelMinMax, QuantizationScheme::kSymmetric, true);
  auto module = make_observer_module(observer_config_of(spec, PointKind::kWeight));
  run(module, batches(1)[0]);
  auto other = spec;
  other.ch_axis = 0;
  EXPECT_THROW(observer_of(module, other, PointKind::kWeight), Error);
  other = torch_ao_spec(ObserverKind::kMinMax, QuantizationScheme::kSymmetric, false);
  EXPECT_THROW(observer_of(module, other, PointKind::kWeight), Error);
  other = torch_ao_spec(ObserverKind::kMinMax, QuantizationScheme::kAsymmetric, false);
  other.dtype = c10::kByte;
  other.quant_min = other.quant_max = c10::nullopt;
  other.is_dynamic = true;
  const auto placeholder = make_observer_module(observer_config_of(other, PointKind::kActivation));
  EXPECT_THROW(observer_of(placeholder, other, PointKind::kActivation), Error);
}

TEST(ObserverOf, StatisticsThatAreNoRangeAreRefused) {
  const auto spec = torch_ao_spec(ObserverKind::kMinMax, QuantizationScheme::kAsymmetric, false);
  const auto code = [&](float min, float max, bool as_observer) {
    auto module = make_observer_module(observer_config_of(spec, PointKind::kActivation));
    module.attr("min_val").toTensor().fill_(min);
    module.attr("max_val").toTensor().fill_(max);
    try {
      if (as_observer) observer_of(module, spec, PointKind::kActivation);
      if (!as_observer) calculate_qparams(module);
    } catch (const Error& error) {
      return std::string(to_string(error.code()));
    }
    return std::string();
  };
  for (const bool as_observer : {false, true}) {
    EXPECT_EQ(code(2, 1, as_observer), "calibration");
    EXPECT_EQ(code(NAN, 1, as_observer), "calibration");
    EXPECT_EQ(code(1, NAN, as_observer), "calibration");
    EXPECT_EQ(code(1, INFINITY, as_observer), as_observer ? "calibration" : "");
  }
}

}  // namespace
}  // namespace tsquant

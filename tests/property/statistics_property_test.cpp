#include <ATen/Parallel.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include "numerics/qparams.h"
#include "tsquant/observer.h"

namespace tsquant {
namespace {

constexpr int kRounds = 25;

std::vector<QuantizationSpec> all_specs() {
  std::vector<QuantizationSpec> specs;
  for (auto mode : {QuantizationScheme::kSymmetric, QuantizationScheme::kAsymmetric}) {
    for (bool narrow : {false, true}) {
      for (int64_t bits : {2, 3, 4, 8}) {
        for (bool torch_ao : {false, true}) {
          QuantizationSpec spec;
          spec.mode = mode;
          spec.narrow_range = narrow;
          spec.format = integer_format(bits);
          if (torch_ao) {
            spec.formula = QParamsFormula::kTorchAo;
            spec.quant_min = -(1 << (bits - 1)) + (narrow ? 1 : 0);
            spec.quant_max = (1 << (bits - 1)) - 1;
          }
          specs.push_back(spec);
        }
      }
    }
  }
  return specs;
}

at::Tensor random_data(int round) {
  torch::manual_seed(round);
  const double scale = std::pow(10.0, round % 7 - 3), offset = round % 3 - 1;
  auto x = torch::randn({4, 3, 17}) * scale + offset * scale;
  return round % 4 == 3 ? x.relu() : x;
}

QParams params_for(const at::Tensor& x, const QuantizationSpec& spec) {
  auto observer = make_observer(spec, PointKind::kActivation);
  observer->observe(x);
  return choose_qparams(observer->range(), spec, PointKind::kActivation);
}

TEST(QuantizeProperty, ErrorIdempotenceZeroAndOrder) {
  for (const auto& spec : all_specs()) {
    for (int round = 0; round < kRounds; ++round) {
      const auto x = random_data(round);
      const auto q = params_for(x, spec);
      const auto codes = quantize(x, q), back = dequantize(codes, q);
      const double scale = q.scale.item<double>();
      ASSERT_GT(scale, 0);
      ASSERT_GE(codes.min().item<int64_t>(), q.quant_min);
      ASSERT_LE(codes.max().item<int64_t>(), q.quant_max);
      // Inside the representable range the error is at most half a step.
      const double low = scale * (q.quant_min - q.zero_point.item<int64_t>());
      const double high = scale * (q.quant_max - q.zero_point.item<int64_t>());
      const auto inside = x.clamp(low, high);
      ASSERT_LE((back - inside).abs().max().item<double>(), scale / 2 * 1.0001 + 1e-12) << "round " << round;
      ASSERT_TRUE(at::equal(quantize(back, q), codes)) << "quantizing twice changes codes, round " << round;
      ASSERT_EQ(dequantize(quantize(torch::zeros({1}), q), q).item<float>(), 0);
      const auto sorted = std::get<0>(x.flatten().sort());
      const auto steps = quantize(sorted, q).to(at::kInt).diff();
      ASSERT_GE(steps.min().item<int>(), 0) << "codes must not fall when values rise";
    }
  }
}

TEST(ObserverProperty, BatchSplitDoesNotMatter) {
  for (int round = 0; round < kRounds; ++round) {
    const auto x = random_data(round);
    for (auto estimator :
         {RangeEstimatorParameters{}, RangeEstimatorParameters::minmax(), RangeEstimatorParameters::median_minmax(),
          RangeEstimatorParameters::mean_quantile(), RangeEstimatorParameters::mean_no_outliers_minmax()}) {
      for (bool per_channel : {false, true}) {
        QuantizationSpec spec;
        spec.per_channel = per_channel;
        spec.ch_axis = 1;
        auto whole = make_observer(spec, PointKind::kActivation, true, estimator);
        auto split = make_observer(spec, PointKind::kActivation, true, estimator);
        auto other = make_observer(spec, PointKind::kActivation, true, estimator);
        whole->observe(x);
        other->observe(x.narrow(0, 1, 3));
        split->observe(x.narrow(0, 0, 1));
        other->merge(*split);
        ASSERT_TRUE(at::equal(whole->range().min, other->range().min)) << "round " << round;
        ASSERT_TRUE(at::equal(whole->range().max, other->range().max)) << "round " << round;
      }
    }
  }
}

TEST(ObserverProperty, RangesLieInsideTheData) {
  for (auto kind :
       {ObserverKind::kDefault, ObserverKind::kMinMax, ObserverKind::kMovingAverageMinMax, ObserverKind::kHistogram}) {
    for (int round = 0; round < kRounds; ++round) {
      QuantizationSpec spec;
      spec.observer = kind;
      spec.mode = QuantizationScheme::kAsymmetric;
      auto observer = make_observer(spec, PointKind::kActivation);
      const auto x = random_data(round);
      for (int64_t i = 0; i < x.size(0); ++i) observer->observe(x[i]);
      const auto range = observer->range();
      const double slack = 1e-6 * x.abs().max().item<double>();
      ASSERT_GE(range.min.item<double>(), x.min().item<double>() - slack);
      ASSERT_LE(range.max.item<double>(), x.max().item<double>() + slack);
    }
  }
}

TEST(ObserverProperty, ThreadsDoNotMatter) {
  torch::manual_seed(11);
  const auto x = torch::randn({3, 8, 256, 257});
  const int threads = at::get_num_threads();
  for (auto kind : {ObserverKind::kDefault, ObserverKind::kMovingAverageMinMax, ObserverKind::kHistogram}) {
    std::vector<Range> ranges;
    for (int count : {1, 2, 4}) {
      at::set_num_threads(count);
      QuantizationSpec spec;
      spec.observer = kind;
      auto observer = make_observer(spec, PointKind::kActivation, true);
      observer->observe(x);
      observer->observe(x * 1.5);
      ranges.push_back(observer->range());
    }
    for (const auto& range : ranges) {
      EXPECT_TRUE(at::equal(range.min, ranges[0].min));
      EXPECT_TRUE(at::equal(range.max, ranges[0].max));
    }
  }
  at::set_num_threads(threads);
}

}  // namespace
}  // namespace tsquant

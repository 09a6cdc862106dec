#include "observers/quantile_range_observer.h"

#include <gtest/gtest.h>
#include <tsquant/tsquant.h>

#include "calibration/calibrator.h"
#include "support/support.h"

namespace tsquant {
namespace {

RangeEstimatorParameters mean() { return RangeEstimatorParameters::mean_minmax(); }

at::Tensor sample(float low, float high) { return torch::tensor({low, 0.f, high}); }

/// Samples 1 to `count`; number i reaches from -i to 2 i.
std::vector<at::Tensor> growing(int64_t count) {
  std::vector<at::Tensor> samples;
  for (int64_t i = 1; i <= count; ++i) samples.push_back(sample(-static_cast<float>(i), 2.f * static_cast<float>(i)));
  return samples;
}

Range range_of(const std::vector<at::Tensor>& samples, bool model_input = false) {
  QuantileRangeObserver observer(mean(), false, model_input);
  for (const auto& x : samples) observer.observe(x);
  return observer.range();
}

TEST(QuantileRangeObserver, FewSamplesGiveTheMean) {
  const Range range = range_of(growing(99));
  EXPECT_FLOAT_EQ(range.min.item<float>(), -50);
  EXPECT_FLOAT_EQ(range.max.item<float>(), 100);
}

TEST(QuantileRangeObserver, ManySamplesGiveTheQuantile) {
  // Linear interpolation: position 0.95 * (101 - 1) = 95, the 96th of 101 extrema.
  const Range range = range_of(growing(101));
  EXPECT_FLOAT_EQ(range.min.item<float>(), -96);
  EXPECT_FLOAT_EQ(range.max.item<float>(), 192);
  // Position 0.95 * 99 = 94.05, between the 95th and the 96th.
  EXPECT_FLOAT_EQ(range_of(growing(100)).max.item<float>(), 2 * 95.05f);
}

TEST(QuantileRangeObserver, OddSamplesDoNotCount) {
  auto samples = growing(119);
  samples.push_back(sample(-1e6, 1e6));
  EXPECT_LT(range_of(samples).max.item<float>(), 2 * 119);
  EXPECT_GT(range_of(samples).min.item<float>(), -119);
}

/// The first `bright` of `count` samples end at 100, the others at about 1.
std::vector<at::Tensor> images(int count, int bright) {
  std::vector<at::Tensor> samples;
  for (int i = 0; i < count; ++i) {
    const float step = 0.01f * static_cast<float>(i);
    samples.push_back(sample(-1 - step, i < bright ? 100.f : 1 + step));
  }
  return samples;
}

TEST(QuantileRangeObserver, RepeatedExtremesOfInputsAreLimits) {
  EXPECT_EQ(range_of(images(40, 2), true).max.item<float>(), 100);
  EXPECT_LT(range_of(images(41, 2), true).max.item<float>(), 10) << "less than one in 20";
  EXPECT_LT(range_of(images(4, 1), true).max.item<float>(), 30) << "only once";
  EXPECT_LT(range_of(images(40, 2), false).max.item<float>(), 10) << "not an input";
  EXPECT_FLOAT_EQ(range_of(images(40, 2), true).min.item<float>(), -1.195f) << "the mean";
  EXPECT_EQ(range_of(images(100, 6), true).max.item<float>(), 100) << "many samples";
}

TEST(QuantileRangeObserver, SignsAreThoseOfTheMean) {
  std::vector<at::Tensor> rarely_negative(120, sample(0, 3)), rarely_positive(120, sample(-3, 0));
  rarely_negative[7] = sample(-12, 3);
  rarely_positive[7] = sample(-3, 12);
  EXPECT_FLOAT_EQ(range_of(rarely_negative).min.item<float>(), -0.1f);
  EXPECT_FLOAT_EQ(range_of(rarely_positive).max.item<float>(), 0.1f);
}

TEST(QuantileRangeObserver, ItemsMergeAndState) {
  const auto samples = growing(120);
  QuantileRangeObserver items(mean(), true, false), first(mean(), false, false), second(mean(), false, false),
      restored(mean(), false, false);
  items.observe(at::stack(samples));
  for (size_t i = 0; i < samples.size(); ++i) (i < 50 ? first : second).observe(samples[i]);
  EXPECT_FLOAT_EQ(items.range().max.item<float>(), 2 * (1 + 0.95f * 119));
  EXPECT_FLOAT_EQ(first.range().max.item<float>(), 51) << "50 samples";
  first.merge(second);
  EXPECT_TRUE(at::equal(first.range().max, items.range().max));
  EXPECT_TRUE(at::equal(first.range().min, items.range().min));
  restored.set_state(first.state());
  EXPECT_TRUE(at::equal(restored.range().max, first.range().max));
  EXPECT_TRUE(at::equal(restored.range().min, first.range().min));
  for (int i = 0; i < 20; ++i) restored.observe(sample(-1, 500));
  EXPECT_EQ(restored.range().max.item<float>(), 500) << "continues after the state was restored";
}

TEST(QuantileRangeObserver, NaNAndEmptyTensorsAreNoSamples) {
  auto samples = growing(99);
  samples.push_back(at::empty({0}));
  samples.push_back(at::full({3}, NAN));
  EXPECT_FLOAT_EQ(range_of(samples).max.item<float>(), 100) << "99 samples";
}

/// Largest value of the range of a point after calibrating on 130 samples.
double calibrated(const std::string& node, const RangeEstimatorParameters& chosen) {
  Model model = Model::from(testing::define(
      "def forward(self, x):\n    return torch.linear(torch.linear(x, self.w).relu(), self.w)\n", {{"w", at::eye(3)}}));
  const GraphView view(model);
  const Annotations annotations = OpenVINOQuantizer().annotate(view);
  CalibrationOptions options;
  options.activations_range_estimator = chosen;
  const auto stats = calibrate(model, view, annotations, Dataset::from_tensors(growing(130)), options);
  for (const auto& point : annotations.points) {
    if (point.kind == PointKind::kActivation && point.node.find(node) != std::string::npos) {
      return stats.observers.at(point.id)->range().max.item<double>();
    }
  }
  return 0;
}

TEST(QuantileRangeObserver, WhereNothingWasChosen) {
  for (const std::string node : {"x", "relu"}) {
    EXPECT_FLOAT_EQ(calibrated(node, {}), 2 * (1 + 0.95f * 129)) << node;
    EXPECT_FLOAT_EQ(calibrated(node, mean()), 131) << node << ": NNCF's rule, when asked for";
    RangeEstimatorParameters one_field;
    one_field.max.aggregator_type = AggregatorType::kMax;
    EXPECT_FLOAT_EQ(calibrated(node, one_field), 260) << node;
    RangeEstimatorParameters probability;
    probability.min.quantile_outlier_prob = 0.01;
    EXPECT_FLOAT_EQ(calibrated(node, probability), 131) << node << ": any field asks for NNCF's rules";
  }
}

}  // namespace
}  // namespace tsquant

#include "calibration/covering_observer.h"

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

Range range_of(const std::vector<at::Tensor>& samples) {
  CoveringObserver observer(mean(), false);
  for (const auto& x : samples) observer.observe(x);
  return observer.range();
}

TEST(CoveringObserver, FewSamplesGiveTheMean) {
  const Range range = range_of(growing(19));
  EXPECT_FLOAT_EQ(range.min.item<float>(), -10);
  EXPECT_FLOAT_EQ(range.max.item<float>(), 20);
}

TEST(CoveringObserver, ManySamplesGiveTheQuantile) {
  // Linear interpolation: position 0.95 * (21 - 1) = 19, the 20th of 21 extrema.
  const Range range = range_of(growing(21));
  EXPECT_FLOAT_EQ(range.min.item<float>(), -20);
  EXPECT_FLOAT_EQ(range.max.item<float>(), 40);
  // Position 0.95 * 19 = 18.05, between the 19th and the 20th.
  EXPECT_FLOAT_EQ(range_of(growing(20)).max.item<float>(), 2 * 19.05f);
}

TEST(CoveringObserver, OddSamplesDoNotCount) {
  auto samples = growing(99);
  samples.push_back(sample(-1e6, 1e6));
  EXPECT_LT(range_of(samples).max.item<float>(), 2 * 99);
  EXPECT_GT(range_of(samples).min.item<float>(), -99);
}

TEST(CoveringObserver, ExtremesThatManyReachAreBounds) {
  std::vector<at::Tensor> images;
  for (int i = 0; i < 40; ++i) images.push_back(sample(-1 - 0.01f * static_cast<float>(i), i < 4 ? 2.64f : 1.5f));
  EXPECT_EQ(range_of(images).max.item<float>(), 2.64f);
}

TEST(CoveringObserver, SignsAreThoseOfTheMean) {
  std::vector<at::Tensor> rarely_negative(60, sample(0, 3)), rarely_positive(60, sample(-3, 0));
  rarely_negative[7] = sample(-6, 3);
  rarely_positive[7] = sample(-3, 6);
  EXPECT_FLOAT_EQ(range_of(rarely_negative).min.item<float>(), -0.1f);
  EXPECT_FLOAT_EQ(range_of(rarely_positive).max.item<float>(), 0.1f);
}

TEST(CoveringObserver, ItemsMergeAndState) {
  const auto samples = growing(40);
  CoveringObserver items(mean(), true), first(mean(), false), second(mean(), false), restored(mean(), false);
  items.observe(at::stack(samples));
  for (size_t i = 0; i < samples.size(); ++i) (i < 10 ? first : second).observe(samples[i]);
  EXPECT_FLOAT_EQ(items.range().max.item<float>(), 2 * (1 + 0.95f * 39));
  EXPECT_FLOAT_EQ(first.range().max.item<float>(), 11) << "ten samples";
  first.merge(second);
  EXPECT_TRUE(at::equal(first.range().max, items.range().max));
  EXPECT_TRUE(at::equal(first.range().min, items.range().min));
  restored.set_state(first.state());
  EXPECT_TRUE(at::equal(restored.range().max, first.range().max));
  EXPECT_TRUE(at::equal(restored.range().min, first.range().min));
  for (int i = 0; i < 10; ++i) restored.observe(sample(-1, 200));
  EXPECT_EQ(restored.range().max.item<float>(), 200) << "continues after the state was restored";
}

TEST(CoveringObserver, NaNAndEmptyTensorsAreNoSamples) {
  auto samples = growing(19);
  samples.push_back(at::empty({0}));
  samples.push_back(at::full({3}, NAN));
  EXPECT_FLOAT_EQ(range_of(samples).max.item<float>(), 20) << "19 samples";
}

/// Largest value of the range of a point after calibrating on 30 samples.
double calibrated(const std::string& node, const RangeEstimatorParameters& chosen) {
  Model model = Model::from(testing::define(
      "def forward(self, x):\n    return torch.linear(torch.linear(x, self.w).relu(), self.w)\n", {{"w", at::eye(3)}}));
  const GraphView view(model);
  const Annotations annotations = OpenVINOQuantizer().annotate(view);
  CalibrationOptions options;
  options.activations_range_estimator = chosen;
  const auto stats = calibrate(model, view, annotations, Dataset::from_tensors(growing(30)), options);
  for (const auto& point : annotations.points) {
    if (point.kind == PointKind::kActivation && point.node.find(node) != std::string::npos) {
      return stats.observers.at(point.id)->range().max.item<double>();
    }
  }
  return 0;
}

TEST(CoveringObserver, WhereNothingWasChosen) {
  for (const std::string node : {"x", "relu"}) {
    EXPECT_FLOAT_EQ(calibrated(node, {}), 2 * (1 + 0.95f * 29)) << node;
    EXPECT_FLOAT_EQ(calibrated(node, mean()), 31) << node << ": NNCF's rule, when asked for";
    RangeEstimatorParameters one_field;
    one_field.max.aggregator_type = AggregatorType::kMax;
    EXPECT_FLOAT_EQ(calibrated(node, one_field), 60) << node;
  }
}

}  // namespace
}  // namespace tsquant

#include <gtest/gtest.h>
#include <tsquant/tsquant.h>

#include "calibration/bounded_input_observer.h"
#include "calibration/calibrator.h"
#include "support/support.h"

namespace tsquant {
namespace {

RangeEstimatorParameters mean() { return RangeEstimatorParameters::mean_minmax(); }

at::Tensor sample(float low, float high) { return torch::tensor({low, 0.f, high}); }

TEST(BoundedInputObserver, RepeatedExtremesAreLimits) {
  BoundedInputObserver observer(mean(), false);
  for (const auto& [low, high] : {std::pair(-1.f, 4.f), {-2.f, 6.f}, {-3.f, 6.f}, {-2.f, 5.f}}) {
    observer.observe(sample(low, high));
  }
  EXPECT_FLOAT_EQ(observer.range().max.item<float>(), 6) << "two of four samples reach it";
  EXPECT_FLOAT_EQ(observer.range().min.item<float>(), -2) << "the mean: only one sample reaches -3";
}

TEST(BoundedInputObserver, OneInTwentySamples) {
  const auto high = [](int64_t samples) {
    BoundedInputObserver observer(mean(), false);
    for (int64_t i = 0; i < samples; ++i) observer.observe(sample(-1 - 0.01f * i, i < 2 ? 100.f : 1 + 0.001f * i));
    return observer.range().max.item<float>();
  };
  EXPECT_FLOAT_EQ(high(40), 100);
  EXPECT_LT(high(41), 10);
}

TEST(BoundedInputObserver, ItemsMergeAndState) {
  const auto batch = at::stack({sample(-1, 6), sample(-2, 6), sample(-3, 1)});
  BoundedInputObserver items(mean(), true), first(mean(), false), second(mean(), false), restored(mean(), false);
  items.observe(batch);
  first.observe(batch[0]);
  second.observe(batch[1]);
  second.observe(batch[2]);
  EXPECT_FLOAT_EQ(items.range().max.item<float>(), 6);
  EXPECT_LT(second.range().max.item<float>(), 6);
  first.merge(second);
  EXPECT_TRUE(at::equal(first.range().max, items.range().max));
  EXPECT_TRUE(at::equal(first.range().min, items.range().min));
  restored.set_state(first.state());
  EXPECT_TRUE(at::equal(restored.range().max, first.range().max));
  restored.observe(sample(0, 7));
  EXPECT_LT(restored.range().max.item<float>(), 6) << "the new extreme was seen once";
}

/// Largest value of the input's range after calibrating on samples of which two end at 6.
double input_range(const RangeEstimatorParameters& chosen) {
  Model model = Model::from(
      testing::define("def forward(self, x):\n    return torch.linear(x, self.w)\n", {{"w", at::ones({2, 3})}}));
  const GraphView view(model);
  const Annotations annotations = OpenVINOQuantizer().annotate(view);
  CalibrationOptions options;
  options.activations_range_estimator = chosen;
  const auto data = Dataset::from_tensors({sample(-1, 2), sample(-2, 6), sample(-3, 6)});
  const auto stats = calibrate(model, view, annotations, data, options);
  for (const auto& point : annotations.points) {
    if (point.kind == PointKind::kActivation) return stats.observers.at(point.id)->range().max.item<double>();
  }
  return 0;
}

TEST(BoundedInputObserver, OnlyWhereNothingWasChosen) {
  EXPECT_FLOAT_EQ(input_range({}), 6);
  EXPECT_FLOAT_EQ(input_range(RangeEstimatorParameters::mean_minmax()), 14.0 / 3) << "NNCF's rule, when asked for";
}

}  // namespace
}  // namespace tsquant

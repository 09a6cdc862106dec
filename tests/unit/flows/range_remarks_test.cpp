#include <gtest/gtest.h>
#include <tsquant/tsquant.h>

#include <algorithm>

#include "support/support.h"

namespace tsquant::testing {
namespace {

using Tensors = std::function<at::Tensor(int64_t sample)>;

constexpr int64_t kEnoughSamples = 100;

at::Tensor ordinary(int64_t sample) {
  at::manual_seed(sample + 1);
  return at::randn({1, 2, 8, 8});
}

at::Tensor ordinary_weight() {
  at::manual_seed(7);
  return at::randn({3, 2, 3, 3});
}

std::vector<std::string> warnings_of(const Tensors& tensors, int64_t samples = kEnoughSamples,
                                     const at::Tensor& weight = ordinary_weight(),
                                     const RangeEstimatorParameters& weights = {},
                                     const RangeEstimatorParameters& activations = {}) {
  auto model = Model::from(define("def forward(self, x):\n    return torch.conv2d(x, self.w)\n", {{"w", weight}}));
  OpenVINOQuantizer quantizer;
  QuantizePt2eOptions options;
  options.subset_size = samples;
  options.form = OutputForm::kReference;
  options.weights_range_estimator_params = weights;
  options.activations_range_estimator_params = activations;
  const Dataset data(samples, [&](int64_t index) { return Sample{{tensors(index)}, {}}; });
  return quantize_pt2e(model, quantizer, data, options).report.warnings;
}

/// The warnings that hold all of these texts.
int64_t count(const std::vector<std::string>& warnings, const std::vector<std::string>& texts) {
  return std::count_if(warnings.begin(), warnings.end(), [&](const std::string& warning) {
    return std::all_of(texts.begin(), texts.end(),
                       [&](const std::string& text) { return warning.find(text) != std::string::npos; });
  });
}

TEST(RangeRemarksTest, ordinary_model_without_warnings) {
  const auto warnings = warnings_of(ordinary);
  EXPECT_TRUE(warnings.empty()) << warnings.front();
}

TEST(RangeRemarksTest, few_samples_are_said_once_with_the_rule_that_holds_then) {
  const auto warnings = warnings_of(ordinary, 99);
  ASSERT_EQ(warnings.size(), 1u);
  EXPECT_EQ(count(warnings, {"99 samples", "fewer than 100", "mean"}), 1) << warnings.front();
  const auto chosen = warnings_of(ordinary, 99, ordinary_weight(), {}, RangeEstimatorParameters::minmax());
  EXPECT_EQ(count(chosen, {"99 samples"}), 1);
  EXPECT_EQ(count(chosen, {"mean"}), 0) << "another rule was chosen";
}

TEST(RangeRemarksTest, few_different_values_name_the_tensor) {
  const auto binary = [](int64_t sample) { return ordinary(sample).gt(0).to(at::kFloat); };
  EXPECT_EQ(count(warnings_of(binary), {"1 tensor (x: 2)", "different values"}), 1);
  const auto constant = [](int64_t) { return at::full({1, 2, 8, 8}, 0.5); };
  const auto warnings = warnings_of(constant);
  EXPECT_EQ(count(warnings, {"1 tensor (x: constant)"}), 1);
  EXPECT_EQ(warnings.size(), 1u) << "one kind per tensor";
}

TEST(RangeRemarksTest, ranges_widened_to_the_smallest_scale) {
  const auto tiny = [](int64_t sample) { return ordinary(sample) * 1e-6; };
  EXPECT_EQ(count(warnings_of(tiny), {"1 tensor (x)", "smallest"}), 1);
  const auto small = [](int64_t sample) { return ordinary(sample) * 1e-2; };
  EXPECT_TRUE(warnings_of(small).empty());
  const auto warnings = warnings_of(ordinary, kEnoughSamples, ordinary_weight() * 1e-6);
  EXPECT_EQ(count(warnings, {"conv2d", "smallest"}), 1) << "a weight of tiny values";
}

TEST(RangeRemarksTest, negative_channel_whose_scale_comes_from_an_upper_quantile) {
  const auto quantile = RangeEstimatorParameters::mean_quantile();
  at::Tensor weight = ordinary_weight();
  EXPECT_TRUE(warnings_of(ordinary, kEnoughSamples, weight, quantile).empty());
  weight[1] = -weight[1].abs() - 0.01;
  const auto warnings = warnings_of(ordinary, kEnoughSamples, weight, quantile);
  EXPECT_EQ(count(warnings, {"conv2d", "channel 1)", "abs_quantile"}), 1);
  EXPECT_TRUE(warnings_of(ordinary, kEnoughSamples, weight).empty()) << "the default looks at magnitudes";
}

}  // namespace
}  // namespace tsquant::testing

#include "compression/column_scale.h"

#include <gtest/gtest.h>

#include <cmath>

#include "compression/scale_search.h"
#include "correlated_layer.h"
#include "support/thrown_error.h"

namespace tsquant::testing {
namespace {

/// Some channels are much larger than others, as those after a norm are in language models.
struct OutlierLayer {
  CorrelatedLayer layer{12, 64};
  at::Tensor mean_square;

  OutlierLayer() {
    layer.rows.narrow(1, 10, 3).mul_(8);
    mean_square = layer.rows.square().mean(0);
  }
};

/// Everything that is better counts.
ColumnScaleOptions keen() {
  ColumnScaleOptions options;
  options.worth = 1;
  return options;
}

double error_with(const at::Tensor& weight, const QuantizationSpec& spec, const at::Tensor& importance,
                  const at::Tensor& scale) {
  const auto codes = search_scales(weight * scale, spec, importance / scale.square());
  const auto difference = weight - decompress(codes) / scale;
  return ((difference.square() * importance).sum() / (weight.square() * importance).sum()).item<double>();
}

TEST(ColumnScale, MakesOutputsBetter) {
  const OutlierLayer outliers;
  const auto& weight = outliers.layer.weight;
  const auto spec = group_spec(Format::kInt3, 32);
  const auto found = find_column_scale({weight}, spec, outliers.mean_square, keen());
  EXPECT_LT(found.error, 0.97 * found.error_without);
  EXPECT_NEAR(found.scale.log().mean().item<double>(), 0, 1e-5);
  EXPECT_NEAR(found.error, error_with(weight, spec, outliers.mean_square, found.scale), 1e-6);
  EXPECT_NEAR(found.error_without, error_with(weight, spec, outliers.mean_square, at::ones({64})), 1e-6);
}

// What one side of a product lost and the other one gained changes nothing, whatever the channels were multiplied by.
TEST(ColumnScale, UndoesFactorsThatInputsAndWeightsShare) {
  const CorrelatedLayer layer{12, 64};
  const auto spec = group_spec(Format::kInt4, 32);
  const at::Tensor mean_square = layer.rows.square().mean(0);
  at::Tensor factor = at::ones({64});
  factor[5] = factor[17] = factor[40] = 60;
  const auto plain = find_column_scale({layer.weight}, spec, mean_square);
  const auto planted = find_column_scale({layer.weight / factor}, spec, mean_square * factor.square());
  EXPECT_GT(planted.error_without, 2 * plain.error_without);
  EXPECT_LT(planted.error, 1.1 * plain.error);
}

TEST(ColumnScale, IsOneWhereNothingIsBetter) {
  at::manual_seed(1);
  const at::Tensor signs = at::randint(0, 2, {8, 64}, at::kFloat) * 2 - 1;  // all channels alike
  const auto found = find_column_scale({signs}, group_spec(Format::kInt4, 32), at::ones({64}));
  EXPECT_TRUE(at::equal(found.scale, at::ones({64})));
  EXPECT_EQ(found.error, found.error_without);
  const auto unseen = find_column_scale({at::randn({8, 64})}, group_spec(Format::kInt4, 32), at::zeros({64}));
  EXPECT_TRUE(at::equal(unseen.scale, at::ones({64})));
}

TEST(ColumnScale, IsSharedByLayersOfTheSameInputs) {
  const OutlierLayer outliers;
  at::manual_seed(2);
  const auto other = at::randn({6, 64}) * 3;
  const auto spec = group_spec(Format::kInt3, 32);
  const auto both = find_column_scale({outliers.layer.weight, other}, spec, outliers.mean_square, keen());
  const auto first = find_column_scale({outliers.layer.weight}, spec, outliers.mean_square, keen());
  EXPECT_NE(both.error_without, first.error_without);
  EXPECT_LT(both.error, both.error_without);
}

TEST(ColumnScale, DeadChannelsAndOptionsCount) {
  OutlierLayer outliers;
  outliers.layer.weight.narrow(1, 4, 1).zero_();
  outliers.mean_square.narrow(0, 0, 2).zero_();
  const auto spec = group_spec(Format::kInt3, 32);
  ColumnScaleOptions options = keen();
  const auto found = find_column_scale({outliers.layer.weight}, spec, outliers.mean_square, options);
  EXPECT_TRUE(at::isfinite(found.scale).all().item<bool>());
  EXPECT_GT(found.scale.min().item<float>(), 0);
  EXPECT_LT(found.error, found.error_without);
  options.worth = 0.9 * found.error / found.error_without;
  EXPECT_TRUE(
      at::equal(find_column_scale({outliers.layer.weight}, spec, outliers.mean_square, options).scale, at::ones({64})));
  options = keen();
  options.steps = 16;
  EXPECT_LE(find_column_scale({outliers.layer.weight}, spec, outliers.mean_square, options).error, found.error);
  options.rows = 3;
  EXPECT_NE(find_column_scale({outliers.layer.weight}, spec, outliers.mean_square, options).error_without,
            found.error_without);
}

TEST(ColumnScale, RefusesWrongArguments) {
  const OutlierLayer outliers;
  const auto code_of = [&](const std::vector<at::Tensor>& weights, const ColumnScaleOptions& options) {
    return thrown_error(
               [&] { find_column_scale(weights, group_spec(Format::kInt4, 32), outliers.mean_square, options); })
        .code();
  };
  ColumnScaleOptions options;
  EXPECT_EQ(code_of({}, options), ErrorCode::kInvalidArgument);
  EXPECT_EQ(code_of({at::ones({2, 32})}, options), ErrorCode::kInvalidArgument);
  options.steps = 0;
  EXPECT_EQ(code_of({outliers.layer.weight}, options), ErrorCode::kInvalidArgument);
  options = {};
  options.worth = 0;
  EXPECT_EQ(code_of({outliers.layer.weight}, options), ErrorCode::kInvalidArgument);
  options = {};
  options.rows = 0;
  EXPECT_EQ(code_of({outliers.layer.weight}, options), ErrorCode::kInvalidArgument);
}

}  // namespace
}  // namespace tsquant::testing

#include "compression/full_error_awq.h"

#include <gtest/gtest.h>

#include <cmath>

#include "compression/output_error.h"
#include "correlated_layer.h"
#include "support/thrown_error.h"

namespace tsquant::testing {
namespace {

/// Some channels are much larger than others, as those after a norm are in language models.
struct OutlierLayer {
  CorrelatedLayer layer{12, 64};
  InputMoments moments;

  OutlierLayer() {
    layer.rows.narrow(1, 10, 3).mul_(8);
    moments.add(layer.rows);
  }
};

TEST(ColumnScale, MakesOutputsBetter) {
  const OutlierLayer outliers;
  const auto& weight = outliers.layer.weight;
  const auto spec = group_spec(Format::kInt3, 32);
  const auto found = find_column_scale({weight}, spec, outliers.moments);
  EXPECT_GT(found.exponent, 0);
  EXPECT_LT(found.error, 0.99 * found.error_without);
  EXPECT_NEAR(found.scale.log().mean().item<double>(), 0, 1e-5);
  // The larger the inputs, the larger the factor.
  EXPECT_TRUE(at::equal(found.scale.argsort(), outliers.moments.mean_square().argsort()));

  const auto hessian = outliers.moments.hessian();
  const auto importance = outliers.moments.mean_square();
  const auto scaled = search_scales(weight * found.scale, spec, importance / found.scale.square());
  EXPECT_NEAR(found.error, relative_output_error(weight, decompress(scaled) / found.scale, hessian), 1e-6);
  EXPECT_NEAR(found.error_without,
              relative_output_error(weight, decompress(search_scales(weight, spec, importance)), hessian), 1e-6);
}

TEST(ColumnScale, IsOneWhereNothingIsBetter) {
  // All channels alike.
  at::manual_seed(1);
  InputMoments moments;
  moments.add(at::eye(64));
  const auto found = find_column_scale({at::randn({8, 64})}, group_spec(Format::kInt4, 32), moments);
  EXPECT_EQ(found.exponent, 0);
  EXPECT_TRUE(at::equal(found.scale, at::ones({64})));
  EXPECT_EQ(found.error, found.error_without);
  InputMoments zeros;
  zeros.add(at::zeros({2, 64}));
  EXPECT_TRUE(
      at::equal(find_column_scale({at::randn({8, 64})}, group_spec(Format::kInt4, 32), zeros).scale, at::ones({64})));
}

TEST(ColumnScale, IsSharedByLayersOfTheSameInputs) {
  const OutlierLayer outliers;
  at::manual_seed(2);
  const auto other = at::randn({6, 64}) * 3;
  const auto spec = group_spec(Format::kInt3, 32);
  const auto both = find_column_scale({outliers.layer.weight, other}, spec, outliers.moments);
  const auto first = find_column_scale({outliers.layer.weight}, spec, outliers.moments);
  EXPECT_NE(both.error_without, first.error_without);
  EXPECT_LT(both.error, both.error_without);
}

TEST(ColumnScale, DeadChannelsAndOptionsCount) {
  OutlierLayer outliers;
  outliers.layer.rows.narrow(1, 0, 2).zero_();
  InputMoments moments;
  moments.add(outliers.layer.rows);
  const auto spec = group_spec(Format::kInt3, 32);
  const auto found = find_column_scale({outliers.layer.weight}, spec, moments);
  EXPECT_TRUE(at::isfinite(found.scale).all().item<bool>());
  EXPECT_GT(found.scale.min().item<float>(), 0);
  ColumnScaleOptions options;
  options.largest = 4;
  EXPECT_NE(find_column_scale({outliers.layer.weight}, spec, moments, options).error, found.error);
  options.steps = 1;
  EXPECT_EQ(find_column_scale({outliers.layer.weight}, spec, moments, options).exponent, 0);
  options.search.steps = 1;
  EXPECT_GT(find_column_scale({outliers.layer.weight}, spec, moments, options).error_without, found.error_without);
}

TEST(ColumnScale, RefusesWrongArguments) {
  const OutlierLayer outliers;
  const auto code_of = [&](const std::vector<at::Tensor>& weights, const ColumnScaleOptions& options) {
    return thrown_error([&] { find_column_scale(weights, group_spec(Format::kInt4, 32), outliers.moments, options); })
        .code();
  };
  ColumnScaleOptions options;
  EXPECT_EQ(code_of({}, options), ErrorCode::kInvalidArgument);
  EXPECT_EQ(code_of({at::ones({2, 32})}, options), ErrorCode::kInvalidArgument);
  options.steps = 0;
  EXPECT_EQ(code_of({outliers.layer.weight}, options), ErrorCode::kInvalidArgument);
  options = {};
  options.largest = 0;
  EXPECT_EQ(code_of({outliers.layer.weight}, options), ErrorCode::kInvalidArgument);
}

}  // namespace
}  // namespace tsquant::testing

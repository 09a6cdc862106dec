#include "compression/damped_factor.h"

#include <gtest/gtest.h>

#include <cmath>

#include "correlated_layer.h"
#include "support/thrown_error.h"

namespace tsquant::testing {
namespace {

/// How far U^T U is from the inverse of the damped H in the factor's order.
double distance(const DampedFactor& factor, const at::Tensor& hessian) {
  const auto damped =
      damped_hessian(hessian, factor.damping).index_select(0, factor.order).index_select(1, factor.order);
  const auto u = factor.upper.to(at::kDouble);
  const auto product = at::mm(at::mm(u.t(), u), damped.to(at::kDouble));
  return (product - at::eye(u.size(0), at::kDouble)).abs().max().item<double>();
}

TEST(DampedFactor, IsTheUpperFactorOfTheInverse) {
  // Less than a block, more than one, and just two.
  for (const int64_t inputs : {5, 300, 512}) {
    const CorrelatedLayer layer(2, inputs);
    for (const bool act_order : {true, false}) {
      DampingOptions options;
      options.act_order = act_order;
      const auto factor = damped_factor(layer.hessian, options);
      EXPECT_LT(distance(factor, layer.hessian), 1e-3) << inputs;
      EXPECT_TRUE(at::equal(factor.upper, factor.upper.triu()));
      EXPECT_TRUE((factor.upper.diagonal() > 0).all().item<bool>());
      EXPECT_EQ(factor.damping, 0.01);
      EXPECT_EQ(factor.attempts, 1);
      const auto sizes = layer.hessian.diagonal().index_select(0, factor.order);
      EXPECT_EQ(at::equal(factor.order, at::arange(inputs, at::kLong)), !act_order);
      if (act_order) EXPECT_TRUE((sizes.narrow(0, 0, inputs - 1) >= sizes.narrow(0, 1, inputs - 1)).all().item<bool>());
    }
  }
}

TEST(DampedFactor, DampingIsAddedToTheMeanOfLiveColumns) {
  auto hessian = at::diag(at::tensor({1.0F, 0.0F, 3.0F}));
  EXPECT_TRUE(at::allclose(damped_hessian(hessian, 0.5).diagonal(), at::tensor({2.0F, 1.0F, 4.0F})));
  EXPECT_EQ(hessian.diagonal()[0].item<float>(), 1);
  DampingOptions options;
  options.damping = 0.5;
  const auto factor = damped_factor(hessian, options);
  EXPECT_EQ(factor.dead, 1);
  EXPECT_TRUE(at::equal(factor.order, at::tensor({2, 0, 1}, at::kLong)));
  EXPECT_LT(distance(factor, hessian), 1e-6);
}

TEST(DampedFactor, SingularMatricesNeedNoMoreThanTheDamping) {
  const CorrelatedLayer few(2, 64, /*count=*/3);
  const auto factor = damped_factor(few.hessian);
  EXPECT_EQ(factor.damping, 0.01);
  EXPECT_LT(distance(factor, few.hessian), 1e-2);
  const auto nothing = damped_factor(at::zeros({4, 4}));
  EXPECT_EQ(nothing.dead, 4);
  EXPECT_TRUE(at::allclose(nothing.upper, at::eye(4) * 10));
}

TEST(DampedFactor, DampingGrowsUntilTheMatrixIsPositiveDefinite) {
  // Rounding may make a matrix of the mean of x^T x a bit indefinite; here it is more than a bit.
  auto hessian = at::eye(3);
  hessian[0][1] = hessian[1][0] = 1.05F;
  const auto factor = damped_factor(hessian);
  EXPECT_NEAR(factor.damping, 0.1, 1e-12);
  EXPECT_EQ(factor.attempts, 2);
  EXPECT_LT(distance(factor, hessian), 1e-4);
  hessian[0][1] = hessian[1][0] = 1000;
  const auto error = thrown_error([&] { damped_factor(hessian); });
  EXPECT_EQ(error.code(), ErrorCode::kCalibration);
  EXPECT_NE(std::string(error.what()).find("leave the layer out"), std::string::npos);
  DampingOptions more;
  more.largest = 10000;
  EXPECT_NEAR(damped_factor(hessian, more).damping, 1000, 1e-9);
}

TEST(DampedFactor, ThreadsDoNotMatter) {
  const CorrelatedLayer layer(2, 700);
  const auto factor_on = [&](int threads) {
    return on_threads(threads, [&] { return damped_factor(layer.hessian).upper; });
  };
  EXPECT_TRUE(at::equal(factor_on(1), factor_on(3)));
}

TEST(DampedFactor, RefusesWhatIsNoMeanOfSquares) {
  const auto code_of = [](const at::Tensor& hessian, const DampingOptions& options = {}) {
    return thrown_error([&] { damped_factor(hessian, options); }).code();
  };
  auto hessian = at::eye(3);
  hessian[1][1] = NAN;
  EXPECT_EQ(code_of(hessian), ErrorCode::kCalibration);
  hessian[1][1] = INFINITY;
  EXPECT_EQ(code_of(hessian), ErrorCode::kCalibration);
  hessian[1][1] = -1;
  EXPECT_EQ(code_of(hessian), ErrorCode::kCalibration);
  EXPECT_EQ(code_of(at::ones({2, 3})), ErrorCode::kInvalidArgument);
  EXPECT_EQ(code_of(at::ones({3})), ErrorCode::kInvalidArgument);
  EXPECT_EQ(code_of(at::eye(3, at::kDouble)), ErrorCode::kInvalidArgument);
  DampingOptions options;
  options.damping = 0;
  EXPECT_EQ(code_of(at::eye(3), options), ErrorCode::kInvalidArgument);
  options.damping = 200;
  EXPECT_EQ(code_of(at::eye(3), options), ErrorCode::kInvalidArgument);
}

}  // namespace
}  // namespace tsquant::testing

#include "compression/layer_error.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>

namespace tsquant::testing {
namespace {

TEST(OutputError, IsThatOfTheOutputs) {
  at::manual_seed(1);
  // More columns than one block of the Hessian.
  const auto weight = at::randn({5, 700}), x = at::randn({40, 700}).to(at::kDouble);
  const auto quantized = weight + 0.01 * at::randn({5, 700});
  const auto outputs = at::mm(x, weight.to(at::kDouble).t()), got = at::mm(x, quantized.to(at::kDouble).t());
  const double wanted = ((got - outputs).square().sum() / outputs.square().sum()).item<double>();
  EXPECT_NEAR(error_by_hessian(weight, quantized, at::mm(x.t(), x)), wanted, 1e-9 * wanted);
  EXPECT_NEAR(error_by_hessian(weight, quantized, 3 * at::mm(x.t(), x)), wanted, 1e-9 * wanted);
  EXPECT_NEAR(error_by_inputs(weight, quantized, x.t()), wanted, 1e-9 * wanted);
}

TEST(OutputError, OfNothingIsZeroOrInfinite) {
  const auto zero = at::zeros({2, 3}), one = at::ones({2, 3});
  for (const auto& h : {at::eye(3), at::zeros({3, 3})}) {
    EXPECT_EQ(error_by_hessian(one, one, h), 0);
    EXPECT_EQ(error_by_hessian(zero, zero, h), 0);
  }
  EXPECT_EQ(error_by_hessian(zero, one, at::eye(3)), INFINITY);
  EXPECT_EQ(error_by_hessian(zero, one, at::zeros({3, 3})), 0);
  EXPECT_EQ(error_by_inputs(one, zero, at::ones({3, 1})), 1);
}

}  // namespace
}  // namespace tsquant::testing

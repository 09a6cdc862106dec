#include "compression/hessian.h"

#include <cmath>

#include "algorithms_golden.h"
#include "support/thrown_error.h"

namespace tsquant::testing {
namespace {

TEST(Hessian, IsNncfs) {
  for (const auto& golden : algorithms_goldens()) {
    int compared = 0;
    for (const auto& c : golden.cases("gptq")) {
      if (!c["arrays"].contains("hessian")) continue;
      EXPECT_LT(relative_difference(hessian_of(golden.layer(c).inputs, 128), golden.array(c, "hessian")), 1e-6);
      ++compared;
    }
    EXPECT_GE(compared, 1);
  }
}

TEST(Hessian, AddsUpRowsOfEveryShapeAndCountsItems) {
  at::manual_seed(1);
  // More columns and rows than one block has.
  const auto x = at::randn({2, 300, 600}), y = at::randn({7, 600});
  Hessian hessian;
  EXPECT_FALSE(hessian.value().defined());
  hessian.add(x);
  hessian.add(y.to(at::kDouble));
  hessian.add(at::zeros({3, 0, 600}));
  EXPECT_EQ(hessian.items(), 3);
  const auto rows = at::cat({x.reshape({-1, 600}), y}).to(at::kDouble);
  const auto wanted = at::mm(rows.t(), rows) * 2 / 3, value = hessian.value();
  EXPECT_LT(relative_difference(value, wanted), 1e-6);
  EXPECT_TRUE(at::equal(value, value.t()));
  hessian.add(x.reshape({2, 3, 100, 600}));
  EXPECT_EQ(hessian.items(), 9);
}

TEST(Hessian, TakesTheFirstInputs) {
  at::manual_seed(2);
  const std::vector<at::Tensor> inputs{at::randn({1, 4, 8}), at::randn({1, 4, 8}), at::randn({1, 4, 8})};
  EXPECT_TRUE(at::equal(hessian_of(inputs, 2), hessian_of({inputs[0], inputs[1]}, 128)));
  EXPECT_FALSE(at::equal(hessian_of(inputs, 2), hessian_of(inputs, 3)));
}

TEST(Hessian, RefusesWrongInputs) {
  Hessian hessian;
  hessian.add(at::ones({2, 4}));
  EXPECT_EQ(thrown_error([&] { hessian.add(at::ones({2, 5})); }).code(), ErrorCode::kInvalidArgument);
  EXPECT_EQ(thrown_error([&] { hessian.add(at::ones({2, 4}, at::kLong)); }).code(), ErrorCode::kInvalidArgument);
  EXPECT_EQ(thrown_error([&] { hessian.add(at::ones({})); }).code(), ErrorCode::kInvalidArgument);
  EXPECT_EQ(thrown_error([&] { hessian.add(at::full({2, 4}, NAN)); }).code(), ErrorCode::kCalibration);
  EXPECT_EQ(hessian.items(), 1);
  EXPECT_EQ(thrown_error([] { hessian_of({}, 1); }).code(), ErrorCode::kCalibration);
  EXPECT_EQ(thrown_error([] { hessian_of({at::ones({1, 2})}, 0); }).code(), ErrorCode::kInvalidArgument);
}

}  // namespace
}  // namespace tsquant::testing

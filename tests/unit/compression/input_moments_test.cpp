#include "compression/input_moments.h"

#include <gtest/gtest.h>

#include <cmath>

#include "correlated_layer.h"
#include "support/thrown_error.h"

namespace tsquant::testing {
namespace {

at::Tensor inputs_of(int64_t rows, int64_t channels, uint64_t seed = 1) {
  at::manual_seed(seed);
  return at::randn({rows, channels}) + at::arange(channels) * 0.01;
}

InputMoments moments_of(const std::vector<at::Tensor>& parts) {
  InputMoments moments;
  for (const auto& part : parts) moments.add(part);
  return moments;
}

TEST(InputMoments, AreThoseOfAllRows) {
  // More rows than are multiplied together, and more channels than a block has.
  const auto x = inputs_of(1300, 600);
  const auto moments = moments_of({x.narrow(0, 0, 100).reshape({4, 25, 600}), x.narrow(0, 100, 1200)});
  const auto exact = x.to(at::kDouble);
  const auto hessian = moments.hessian();
  EXPECT_EQ(moments.rows(), 1300);
  EXPECT_EQ(moments.channels(), 600);
  EXPECT_EQ(hessian.scalar_type(), at::kFloat);
  EXPECT_TRUE(at::allclose(hessian.to(at::kDouble), at::mm(exact.t(), exact) / 1300, 1e-5, 1e-4));
  EXPECT_TRUE(at::equal(hessian, hessian.t()));
  EXPECT_TRUE(at::allclose(moments.mean().to(at::kDouble), exact.mean(0), 1e-6, 1e-7));
  EXPECT_TRUE(at::allclose(moments.mean_square().to(at::kDouble), exact.square().mean(0), 1e-6));
  EXPECT_TRUE(at::allclose(moments.mean_square(), hessian.diagonal(), 1e-5));
}

TEST(InputMoments, DoNotDependOnHowRowsAreCutNorOnThreads) {
  const auto x = inputs_of(2500, 40);
  const auto whole = on_threads(1, [&] { return moments_of({x}).hessian(); });
  EXPECT_TRUE(at::equal(on_threads(3, [&] { return moments_of(x.split(7)).hessian(); }), whole));
  EXPECT_TRUE(at::equal(moments_of(x.split(7)).mean(), moments_of({x}).mean()));
  const auto wide = inputs_of(60, 1200);
  EXPECT_TRUE(at::equal(on_threads(1, [&] { return moments_of({wide}).hessian(); }),
                        on_threads(4, [&] { return moments_of({wide}).hessian(); })));
}

TEST(InputMoments, MergeInOrderGivesTheSameBits) {
  const auto x = inputs_of(2600, 24);
  const auto merged = [&] {
    auto first = moments_of({x.narrow(0, 0, 1100)});
    first.merge(InputMoments());
    first.merge(moments_of({x.narrow(0, 1100, 1500)}));
    return first;
  };
  const auto a = merged(), whole = moments_of({x});
  EXPECT_EQ(a.rows(), 2600);
  EXPECT_TRUE(at::equal(a.hessian(), merged().hessian()));
  EXPECT_TRUE(at::allclose(a.hessian(), whole.hessian(), 1e-5, 1e-6));
  EXPECT_TRUE(at::allclose(a.mean(), whole.mean(), 1e-5, 1e-6));
  InputMoments empty;
  empty.merge(whole);
  EXPECT_TRUE(at::equal(empty.hessian(), whole.hessian()));
}

TEST(InputMoments, SavedStateGoesOnWhereItWas) {
  const auto x = inputs_of(1500, 16);
  const auto saved = moments_of({x.narrow(0, 0, 1200)}).state();
  InputMoments restored;
  restored.set_state(saved);
  restored.add(x.narrow(0, 1200, 300));
  EXPECT_EQ(restored.rows(), 1500);
  EXPECT_TRUE(at::equal(restored.hessian(), moments_of({x}).hessian()));
  EXPECT_TRUE(at::equal(restored.mean(), moments_of({x}).mean()));
  auto damaged = saved;
  damaged[1] = damaged[1].narrow(0, 0, 3);
  EXPECT_EQ(thrown_error([&] { restored.set_state(damaged); }).code(), ErrorCode::kCalibration);
  damaged = saved;
  damaged.back() = damaged.back().to(at::kFloat);
  EXPECT_EQ(thrown_error([&] { restored.set_state(damaged); }).code(), ErrorCode::kCalibration);
  EXPECT_EQ(thrown_error([&] { restored.set_state({}); }).code(), ErrorCode::kCalibration);
  EXPECT_EQ(restored.rows(), 1500);
  restored.set_state(InputMoments().state());
  EXPECT_EQ(restored.rows(), 0);
}

TEST(InputMoments, TakeHalfPrecisionAndRefuseWhatIsNoInput) {
  const auto x = inputs_of(50, 8);
  EXPECT_TRUE(at::equal(moments_of({x.to(at::kBFloat16)}).hessian(),
                        moments_of({x.to(at::kBFloat16).to(at::kFloat)}).hessian()));
  InputMoments moments;
  EXPECT_NE(std::string(thrown_error([&] { moments.hessian(); }).what()).find("got no inputs"), std::string::npos);
  moments.add(x);
  EXPECT_NE(std::string(thrown_error([&] {
                          moments.add(at::ones({2, 9}));
                        }).what())
                .find("inputs of 9 channels after inputs of 8"),
            std::string::npos);
  EXPECT_EQ(thrown_error([&] { moments.merge(moments_of({at::ones({2, 9})})); }).code(), ErrorCode::kInvalidArgument);
  EXPECT_EQ(thrown_error([&] { moments.add(at::ones({2, 8}, at::kLong)); }).code(), ErrorCode::kInvalidArgument);
  for (const int64_t rows : {1, 2000}) {  // pending, and multiplied
    moments.add(at::full({rows, 8}, NAN));
    const auto error = thrown_error([&] { moments.hessian(); });
    EXPECT_EQ(error.code(), ErrorCode::kCalibration);
    EXPECT_NE(std::string(error.what()).find("check the calibration data"), std::string::npos);
  }
}

}  // namespace
}  // namespace tsquant::testing

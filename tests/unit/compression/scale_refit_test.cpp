#include "compression/scale_refit.h"

#include <gtest/gtest.h>

#include <cmath>

#include "compression/damped_factor.h"
#include "compression/ordered_gptq.h"
#include "compression/round_to_nearest.h"
#include "correlated_layer.h"
#include "support/thrown_error.h"

namespace tsquant::testing {
namespace {

CompressedWeight gptq_start(const CorrelatedLayer& layer, const QuantizationSpec& spec) {
  return ordered_gptq(layer.weight, round_to_nearest(layer.weight, spec), damped_factor(layer.hessian));
}

TEST(ScaleRefit, NoRowGetsWorseInAnyFormat) {
  const CorrelatedLayer layer(10, 64);
  for (const auto& spec : every_spec()) {
    SCOPED_TRACE(to_string(spec.format));
    const auto start = gptq_start(layer, spec);
    StepErrors errors;
    const auto result = refit_scales(layer.weight, start, layer.hessian, {}, &errors);
    expect_valid(result);
    EXPECT_TRUE(at::equal(result.codes, start.codes));
    for (int64_t row = 0; row < 10; ++row) {
      auto one = layer.weight.clone();
      const auto error_of = [&](const CompressedWeight& compressed) {
        const auto difference = (one - decompress(compressed))[row].to(at::kDouble);
        return at::dot(difference, at::mv(layer.hessian.to(at::kDouble), difference)).item<double>();
      };
      EXPECT_LE(error_of(result), error_of(start) * (1 + 1e-5));
    }
    const double before = layer.objective(decompress(start)), after = layer.objective(decompress(result));
    EXPECT_LE(after, before);
    if (format_info(spec.format).scale == ScaleFormat::kFloat) EXPECT_LT(after, before);
    EXPECT_NEAR(errors.before, before, 1e-4 * before);
    EXPECT_NEAR(errors.after, after, 1e-4 * before);
    EXPECT_TRUE(at::equal(result.qparams.zero_point, start.qparams.zero_point));
    EXPECT_EQ(errors.rows_kept == 10, at::equal(result.qparams.scale, start.qparams.scale));
  }
}

TEST(ScaleRefit, SolvesTheNormalEquations) {
  const CorrelatedLayer layer(3, 24);
  const auto start = gptq_start(layer, group_spec(Format::kInt4, 8));
  const auto result = refit_scales(layer.weight, start, layer.hessian);
  for (int64_t row = 0; row < 3; ++row) {
    // Columns of c: the levels of one group each.
    auto c = at::zeros({24, 3}, at::kDouble);
    for (int64_t k = 0; k < 3; ++k) c.select(1, k).narrow(0, k * 8, 8).copy_(start.codes[row].narrow(0, k * 8, 8));
    const auto h = layer.hessian.to(at::kDouble), w = layer.weight[row].to(at::kDouble);
    const auto a = at::mm(c.t(), at::mm(h, c)), b = at::mv(c.t(), at::mv(h, w));
    const auto exact = at::mv(at::linalg_inv(a), b);
    EXPECT_TRUE(at::allclose(result.qparams.scale[row].to(at::kDouble), exact, 1e-4, 1e-6));
  }
}

TEST(ScaleRefit, MovesPowersOfTwoToTheBestOfTheirNeighbours) {
  const CorrelatedLayer layer(3, 32);
  auto start = round_to_nearest(layer.weight, group_spec(Format::kE2M1, 16));
  start.qparams.scale = start.qparams.scale * 4;
  const auto result = refit_scales(layer.weight, start, layer.hessian);
  const double reached = layer.objective(decompress(result));
  EXPECT_LT(reached, 0.2 * layer.objective(decompress(start)));
  for (int64_t i = 0; i < 6; ++i) {
    for (const float factor : {0.5F, 2.0F}) {
      auto other = result;
      other.qparams.scale = result.qparams.scale.clone();
      other.qparams.scale.view({-1})[i] *= factor;
      EXPECT_GE(layer.objective(decompress(other)), reached * (1 - 1e-6));
    }
  }
}

TEST(ScaleRefit, HalfScalesAreThoseOfFloat16) {
  const CorrelatedLayer layer(12, 64);
  const auto start = gptq_start(layer, group_spec(Format::kInt4, 16));
  RefitOptions options;
  options.scale_type = at::kHalf;
  const auto half = refit_scales(layer.weight, start, layer.hessian, options),
             full = refit_scales(layer.weight, start, layer.hessian);
  EXPECT_TRUE(at::equal(half.qparams.scale.to(at::kHalf).to(at::kFloat), half.qparams.scale));
  EXPECT_FALSE(at::equal(full.qparams.scale.to(at::kHalf).to(at::kFloat), full.qparams.scale));
  EXPECT_NEAR(layer.objective(decompress(half)), layer.objective(decompress(full)),
              0.02 * layer.objective(decompress(full)));
  // Beyond float16 they stay as they are.
  const auto large = with_stored_scales(
      layer.weight * 1e6F, round_to_nearest(layer.weight * 1e6F, group_spec(Format::kInt4, 16)), at::kHalf);
  EXPECT_GT(large.qparams.scale.abs().max().item<float>(), 65504);
  EXPECT_LT(layer.objective(decompress(large) / 1e6F),
            2 * layer.objective(decompress(round_to_nearest(layer.weight, group_spec(Format::kInt4, 16)))));
}

TEST(ScaleRefit, GroupsOfZerosAndEqualColumnsKeepAScale) {
  CorrelatedLayer layer(4, 32);
  layer.weight.narrow(1, 8, 8).zero_();
  // Two groups that the inputs do not tell apart: the system is singular.
  layer.rows.narrow(1, 24, 8).copy_(layer.rows.narrow(1, 16, 8));
  layer.weight.narrow(1, 24, 8).copy_(layer.weight.narrow(1, 16, 8));
  InputMoments moments;
  moments.add(layer.rows);
  const auto start = round_to_nearest(layer.weight, group_spec(Format::kInt4, 8));
  const auto result = refit_scales(layer.weight, start, moments.hessian());
  expect_valid(result);
  EXPECT_TRUE(at::equal(result.qparams.scale.select(1, 1), start.qparams.scale.select(1, 1)));
  EXPECT_LT(layer.objective(decompress(result), moments.hessian()),
            layer.objective(decompress(start), moments.hessian()));
}

TEST(ScaleRefit, ThreadsDoNotMatter) {
  const CorrelatedLayer layer(300, 48, 200);
  const auto start = round_to_nearest(layer.weight, group_spec(Format::kInt2, 16, true));
  const auto result_on = [&](int threads) {
    return on_threads(threads, [&] { return refit_scales(layer.weight, start, layer.hessian); });
  };
  EXPECT_TRUE(same_bits(result_on(1), result_on(3)));
}

TEST(ScaleRefit, RefusesWrongArguments) {
  const CorrelatedLayer layer(4, 32);
  const auto start = round_to_nearest(layer.weight, group_spec(Format::kInt4, 16));
  RefitOptions options;
  options.scale_type = at::kLong;
  const auto error = thrown_error([&] { refit_scales(layer.weight, start, layer.hessian, options); });
  EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
  EXPECT_NE(std::string(error.what()).find("choose float32 or float16"), std::string::npos);
  EXPECT_EQ(thrown_error([&] { refit_scales(layer.weight, start, at::eye(4)); }).code(), ErrorCode::kInvalidArgument);
}

}  // namespace
}  // namespace tsquant::testing

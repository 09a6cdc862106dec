#include "compression/coordinate_descent.h"

#include <gtest/gtest.h>

#include <cmath>

#include "compression/damped_factor.h"
#include "compression/ordered_gptq.h"
#include "compression/round_to_nearest.h"
#include "correlated_layer.h"
#include "support/thrown_error.h"

namespace tsquant::testing {
namespace {

/// Errors of rows in float64.
at::Tensor row_objectives(const at::Tensor& weight, const at::Tensor& values, const at::Tensor& hessian) {
  const auto difference = weight.to(at::kDouble) - values.to(at::kDouble);
  return (at::mm(difference, hessian.to(at::kDouble)) * difference).sum(1);
}

TEST(CoordinateDescent, NoRowGetsWorseInAnyFormat) {
  const CorrelatedLayer layer(10, 64);
  const auto factor = damped_factor(layer.hessian);
  for (const auto& spec : every_spec()) {
    SCOPED_TRACE(to_string(spec.format));
    const auto rounded = round_to_nearest(layer.weight, spec);
    for (const auto& start : {rounded, ordered_gptq(layer.weight, rounded, factor)}) {
      StepErrors errors;
      const auto result = coordinate_descent(layer.weight, start, layer.hessian, {}, &errors);
      expect_valid(result);
      EXPECT_TRUE(at::equal(result.qparams.scale, start.qparams.scale));
      const auto before = row_objectives(layer.weight, decompress(start), layer.hessian);
      const auto after = row_objectives(layer.weight, decompress(result), layer.hessian);
      EXPECT_TRUE((after <= before * (1 + 1e-5)).all().item<bool>());
      EXPECT_LT(after.sum().item<double>(), before.sum().item<double>());
      EXPECT_NEAR(errors.before, before.sum().item<double>(), 1e-4 * errors.before);
      EXPECT_NEAR(errors.after, after.sum().item<double>(), 1e-4 * errors.before);
      EXPECT_EQ(errors.rows_kept > 0, (result.codes == start.codes).all(1).any().item<bool>());
    }
  }
}

/// The lowest objective of all codes of one row.
double best_of_all(const CorrelatedLayer& layer, const CompressedWeight& start) {
  const int64_t inputs = layer.weight.size(1), low = start.qparams.quant_min;
  const auto levels = start.qparams.quant_max - low + 1;
  double best = INFINITY;
  auto codes = start;
  codes.codes = start.codes.clone();
  auto* code = codes.codes.data_ptr<int8_t>();
  for (int64_t number = 0; number < std::pow(levels, inputs); ++number) {
    for (int64_t i = 0, rest = number; i < inputs; ++i, rest /= levels)
      code[i] = static_cast<int8_t>(low + rest % levels);
    best = std::min(best, layer.objective(decompress(codes)));
  }
  return best;
}

TEST(CoordinateDescent, ComesToAPointThatNoSingleCodeImprovesAndNearTheBestOfAll) {
  double found = 0, best = 0, rounded = 0;
  for (uint64_t seed = 1; seed <= 6; ++seed) {
    const CorrelatedLayer layer(1, 5, 200, seed);
    const auto start = round_to_nearest(layer.weight, group_spec(Format::kInt2, 5));
    rounded += layer.objective(decompress(start));
    const double lowest = best_of_all(layer, start);
    DescentOptions options;
    options.sweeps = 20;
    const auto result = coordinate_descent(layer.weight, start, layer.hessian, options);
    const double reached = layer.objective(decompress(result));
    EXPECT_GE(reached, lowest * (1 - 1e-6));
    for (int64_t i = 0; i < 5; ++i) {
      for (int code = -2; code <= 1; ++code) {
        auto other = result;
        other.codes = result.codes.clone();
        other.codes[0][i] = code;
        EXPECT_GE(layer.objective(decompress(other)), reached * (1 - 1e-6));
      }
    }
    found += reached;
    best += lowest;
  }
  EXPECT_LT(found, 1.3 * best);
  EXPECT_LT(found, 0.9 * rounded);
}

TEST(CoordinateDescent, SweepsHelpAndBlocksDoNotMatter) {
  const CorrelatedLayer layer(20, 64);
  const auto start = round_to_nearest(layer.weight, group_spec(Format::kInt3, 32));
  const auto objective_of = [&](int sweeps, int64_t block_size) {
    return layer.objective(decompress(coordinate_descent(layer.weight, start, layer.hessian, {sweeps, block_size})));
  };
  const double one = objective_of(1, 128);
  EXPECT_LT(objective_of(3, 128), 0.999 * one);
  // Blocks round differently, no more.
  for (const int64_t block_size : {1, 10, 64}) EXPECT_NEAR(objective_of(1, block_size), one, 0.01 * one);
}

TEST(CoordinateDescent, LeavesColumnsWithoutInputsAndBestCodesAlone) {
  CorrelatedLayer layer(4, 32);
  layer.rows.narrow(1, 3, 2).zero_();
  InputMoments moments;
  moments.add(layer.rows);
  const auto hessian = moments.hessian();
  const auto start = round_to_nearest(layer.weight, group_spec(Format::kInt4, 16));
  const auto result = coordinate_descent(layer.weight, start, hessian);
  EXPECT_TRUE(at::equal(result.codes.narrow(1, 3, 2), start.codes.narrow(1, 3, 2)));
  EXPECT_FALSE(at::equal(result.codes, start.codes));
  StepErrors errors;
  const auto alone = coordinate_descent(layer.weight, start, at::eye(32), {}, &errors);
  EXPECT_TRUE(same_bits(alone, start));
  EXPECT_EQ(errors.rows_kept, 4);
  EXPECT_EQ(errors.before, errors.after);
}

TEST(CoordinateDescent, ThreadsDoNotMatter) {
  const CorrelatedLayer layer(300, 48, 200);
  const auto start = round_to_nearest(layer.weight, group_spec(Format::kInt2, 16, true));
  StepErrors one, three;
  const auto result_on = [&](int threads, StepErrors& errors) {
    return on_threads(threads, [&] {
      return coordinate_descent(layer.weight, start, layer.hessian, {2, 16}, &errors);
    });
  };
  EXPECT_TRUE(same_bits(result_on(1, one), result_on(3, three)));
  EXPECT_EQ(one.after, three.after);
}

TEST(CoordinateDescent, RefusesWrongArguments) {
  const CorrelatedLayer layer(4, 32);
  const auto start = round_to_nearest(layer.weight, group_spec(Format::kInt4, 16));
  const auto code_of = [&](const at::Tensor& hessian, const DescentOptions& options = {}) {
    return thrown_error([&] { coordinate_descent(layer.weight, start, hessian, options); }).code();
  };
  EXPECT_EQ(code_of(at::eye(16)), ErrorCode::kInvalidArgument);
  EXPECT_EQ(code_of(at::full({32, 32}, NAN)), ErrorCode::kCalibration);
  EXPECT_EQ(code_of(layer.hessian, {0, 128}), ErrorCode::kInvalidArgument);
  EXPECT_EQ(code_of(layer.hessian, {1, 0}), ErrorCode::kInvalidArgument);
}

}  // namespace
}  // namespace tsquant::testing

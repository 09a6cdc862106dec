#include "compression/group_descent.h"

#include <gtest/gtest.h>

#include <cmath>

#include "compression/coordinate_descent.h"
#include "compression/damped_factor.h"
#include "compression/ordered_gptq.h"
#include "compression/round_to_nearest.h"
#include "correlated_layer.h"
#include "support/thrown_error.h"

namespace tsquant::testing {
namespace {

CompressedWeight descended(const CorrelatedLayer& layer, const QuantizationSpec& spec) {
  const auto start = ordered_gptq(layer.weight, round_to_nearest(layer.weight, spec), damped_factor(layer.hessian));
  return coordinate_descent(layer.weight, start, layer.hessian, {10, 128});
}

TEST(GroupDescent, NoRowGetsWorseInAnyFormat) {
  const CorrelatedLayer layer(10, 64);
  for (const auto& spec : every_spec()) {
    SCOPED_TRACE(to_string(spec.format));
    const auto start = descended(layer, spec);
    StepErrors errors;
    const auto result = group_descent(layer.weight, start, layer.hessian, {}, &errors);
    expect_valid(result);
    const auto row_errors = [&](const CompressedWeight& compressed) {
      const auto difference = (layer.weight - decompress(compressed)).to(at::kDouble);
      return (at::mm(difference, layer.hessian.to(at::kDouble)) * difference).sum(1);
    };
    const auto before = row_errors(start), after = row_errors(result);
    EXPECT_TRUE((after <= before * (1 + 1e-5)).all().item<bool>());
    if (format_info(spec.format).bits <= 3) {
      EXPECT_LT(after.sum().item<double>(), before.sum().item<double>());
      EXPECT_FALSE(at::equal(result.qparams.scale, start.qparams.scale));
    }
    EXPECT_NEAR(errors.before, before.sum().item<double>(), 1e-4 * errors.before);
    EXPECT_NEAR(errors.after, after.sum().item<double>(), 1e-4 * errors.before);
  }
}

TEST(GroupDescent, FindsTheOnlyGroupsBestParametersAndCodes) {
  // Where inputs are not correlated, one group's codes are the nearest ones: the best of what is tried can be listed.
  at::manual_seed(1);
  const auto weight = at::randn({6, 8});
  const auto start = round_to_nearest(weight, group_spec(Format::kInt2, 8, true));
  GroupDescentOptions options;
  options.factors = {0.6, 0.8};
  const auto result = group_descent(weight, start, at::eye(8), options);
  int changed = 0;
  for (int64_t row = 0; row < 6; ++row) {
    double best = INFINITY;
    const float scale = start.qparams.scale[row].item<float>();
    const auto zero = start.qparams.zero_point[row].item<int64_t>();
    const std::vector<std::pair<float, int64_t>> trials{
        {scale, zero}, {scale * 0.6F, zero}, {scale * 0.8F, zero}, {scale, zero - 1}, {scale, zero + 1}};
    for (const auto& [s, z] : trials) {
      if (z < 0 || z > 3) continue;
      const auto values = (at::round(weight[row] / s + z).clamp(0, 3) - z) * s;
      best = std::min(best, (values - weight[row]).square().sum().item<double>());
    }
    const auto found = (decompress(result)[row] - weight[row]).square().sum().item<double>();
    EXPECT_NEAR(found, best, 1e-5 * best);
    changed += at::equal(result.codes[row], start.codes[row]) ? 0 : 1;
  }
  EXPECT_GT(changed, 1);
}

TEST(GroupDescent, EveryOptionHasAnEffect) {
  const CorrelatedLayer layer(24, 64);
  const auto spec = group_spec(Format::kInt2, 16, true);
  const auto start = descended(layer, spec);
  const auto objective_of = [&](const GroupDescentOptions& options) {
    return layer.objective(decompress(group_descent(layer.weight, start, layer.hessian, options)));
  };
  const double all = objective_of({});
  GroupDescentOptions options;
  options.factors = {};
  const auto zeros_alone = group_descent(layer.weight, start, layer.hessian, options);
  EXPECT_TRUE(at::equal(zeros_alone.qparams.scale, start.qparams.scale));
  EXPECT_FALSE(at::equal(zeros_alone.qparams.zero_point, start.qparams.zero_point));
  EXPECT_LT(layer.objective(decompress(zeros_alone)), layer.objective(decompress(start)));
  EXPECT_LT(all, layer.objective(decompress(zeros_alone)));
  options = {};
  options.zero_points = false;
  const auto scales_alone = group_descent(layer.weight, start, layer.hessian, options);
  EXPECT_TRUE(at::equal(scales_alone.qparams.zero_point, start.qparams.zero_point));
  EXPECT_FALSE(at::equal(scales_alone.qparams.scale, start.qparams.scale));
  options = {};
  options.factors = {0.7, 0.8, 0.9, 1.1, 1.2};
  EXPECT_LT(objective_of(options), all);
  options = {};
  options.scale_type = at::kHalf;
  const auto half = group_descent(layer.weight, start, layer.hessian, options).qparams.scale;
  const auto moved = half != start.qparams.scale;
  EXPECT_TRUE(moved.any().item<bool>());
  EXPECT_TRUE(at::equal(half.to(at::kHalf).to(at::kFloat).masked_select(moved), half.masked_select(moved)));
}

TEST(GroupDescent, LeavesLargeGroupsAloneAndThreadsDoNotMatter) {
  const CorrelatedLayer wide(2, 512, 100), layer(300, 48, 200);
  const auto large = round_to_nearest(wide.weight, group_spec(Format::kInt2, 512));
  EXPECT_TRUE(same_bits(group_descent(wide.weight, large, wide.hessian), large));
  const auto start = round_to_nearest(layer.weight, group_spec(Format::kInt2, 16, true));
  const auto result_on = [&](int threads) {
    return on_threads(threads, [&] { return group_descent(layer.weight, start, layer.hessian); });
  };
  EXPECT_TRUE(same_bits(result_on(1), result_on(3)));
}

TEST(GroupDescent, RefusesWrongArguments) {
  const CorrelatedLayer layer(4, 32);
  const auto start = round_to_nearest(layer.weight, group_spec(Format::kInt4, 16));
  const auto code_of = [&](const at::Tensor& hessian, const GroupDescentOptions& options) {
    return thrown_error([&] { group_descent(layer.weight, start, hessian, options); }).code();
  };
  GroupDescentOptions options;
  EXPECT_EQ(code_of(at::eye(4), options), ErrorCode::kInvalidArgument);
  for (const double factor : {0.0, 1.0, -2.0, std::nan("")}) {
    options.factors = {factor};
    EXPECT_EQ(code_of(layer.hessian, options), ErrorCode::kInvalidArgument);
  }
  options = {};
  options.scale_type = at::kInt;
  EXPECT_EQ(code_of(layer.hessian, options), ErrorCode::kInvalidArgument);
}

}  // namespace
}  // namespace tsquant::testing

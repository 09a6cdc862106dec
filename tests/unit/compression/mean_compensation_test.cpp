#include "compression/mean_compensation.h"

#include <gtest/gtest.h>

#include <cmath>

#include "compression/output_error.h"
#include "compression/round_to_nearest.h"
#include "correlated_layer.h"
#include "support/thrown_error.h"

namespace tsquant::testing {
namespace {

TEST(MeanCompensation, TakesTheMeanErrorFromEachOutput) {
  const CorrelatedLayer layer(12, 64);
  const auto values = decompress(round_to_nearest(layer.weight, group_spec(Format::kInt2, 32, true)));
  const auto shift = mean_compensation(layer.weight, values, layer.moments.mean());
  const auto error = at::mm(layer.rows, (layer.weight - values).t()).to(at::kDouble);
  EXPECT_GT(error.mean(0).abs().max().item<double>(), 0.05);
  EXPECT_LT((error - shift).mean(0).abs().max().item<double>(), 1e-4);
  // The squared error falls by that of the mean.
  const auto gain = 1000 * shift.to(at::kDouble).square().sum().item<double>();
  EXPECT_NEAR((error - shift).square().sum().item<double>(), error.square().sum().item<double>() - gain, 1e-3 * gain);
}

TEST(MeanCompensation, RefusesWhatDoesNotFit) {
  const auto weight = at::ones({2, 3});
  const auto code_of = [&](const at::Tensor& values, const at::Tensor& mean) {
    return thrown_error([&] { mean_compensation(weight, values, mean); }).code();
  };
  EXPECT_EQ(code_of(at::ones({3, 2}), at::ones({3})), ErrorCode::kInvalidArgument);
  EXPECT_EQ(code_of(weight, at::ones({2})), ErrorCode::kInvalidArgument);
  EXPECT_EQ(code_of(at::full({2, 3}, NAN), at::ones({3})), ErrorCode::kCalibration);
}

TEST(OutputErrors, AreThoseOfTheOutputs) {
  const CorrelatedLayer layer(300, 40, 500);
  const auto values = decompress(round_to_nearest(layer.weight, group_spec(Format::kInt4, 20)));
  const auto rows = layer.rows.to(at::kDouble);
  const auto expected = at::mm(rows, (layer.weight - values).to(at::kDouble).t()).square().mean(0);
  const auto errors = output_errors(layer.weight, values, layer.hessian);
  EXPECT_TRUE(at::allclose(errors, expected, 1e-4));
  const auto total = at::mm(rows, layer.weight.to(at::kDouble).t()).square().mean(0).sum().item<double>();
  EXPECT_NEAR(relative_output_error(layer.weight, values, layer.hessian), expected.sum().item<double>() / total, 1e-6);
  EXPECT_EQ(relative_output_error(layer.weight, layer.weight, layer.hessian), 0);
  EXPECT_EQ(relative_output_error(at::zeros({2, 40}), at::zeros({2, 40}), layer.hessian), 0);
  EXPECT_EQ(relative_output_error(at::zeros({2, 40}), at::ones({2, 40}), layer.hessian), INFINITY);
  EXPECT_TRUE(at::equal(on_threads(1, [&] { return output_errors(layer.weight, values, layer.hessian); }),
                        on_threads(3, [&] { return output_errors(layer.weight, values, layer.hessian); })));
  EXPECT_EQ(thrown_error([&] {
              output_errors(layer.weight, at::ones({2, 40}), layer.hessian);
            }).code(),
            ErrorCode::kInvalidArgument);
}

}  // namespace
}  // namespace tsquant::testing

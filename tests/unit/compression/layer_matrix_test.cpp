#include "compression/layer_matrix.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>

#include "compression/round_to_nearest.h"
#include "compression_golden.h"
#include "support/thrown_error.h"

namespace tsquant::testing {
namespace {

QuantizationSpec four_bits(int64_t group_size, int64_t input_axis) {
  return spec_of_mode("int4_asym", group_size, input_axis);
}

TEST(LayerMatrix, GivesBackWhatPlainRoundingOfTheGivenWeightGives) {
  at::manual_seed(1);
  const auto weight = at::randn({6, 16});
  for (const int64_t group_size : {0, 8}) {
    for (const int64_t input_axis : {1, 0}) {
      SCOPED_TRACE(std::to_string(group_size) + " " + std::to_string(input_axis));
      const auto given = input_axis == 1 ? weight : weight.t();
      const auto spec = four_bits(group_size, input_axis);
      const LayerMatrix matrix(given.to(at::kDouble), spec, "test");
      EXPECT_TRUE(at::equal(matrix.weight(), weight));
      EXPECT_EQ(matrix.groups(), group_size == 0 ? 1 : 2);
      EXPECT_TRUE(at::equal(matrix.from_given(given), weight));
      const auto result = matrix.as_given(round_to_nearest(matrix.weight(), matrix.spec()));
      const auto wanted = round_to_nearest(given, spec);
      EXPECT_TRUE(at::equal(result.codes, wanted.codes));
      EXPECT_TRUE(at::equal(result.qparams.scale, wanted.qparams.scale));
      EXPECT_TRUE(at::equal(result.qparams.zero_point, wanted.qparams.zero_point));
      EXPECT_EQ(result.qparams.range.min.sizes(), wanted.qparams.range.min.sizes());
      EXPECT_EQ(result.qparams.per_channel, wanted.qparams.per_channel);
      EXPECT_EQ(result.qparams.axis, wanted.qparams.axis);
      EXPECT_EQ(result.qparams.group_size, wanted.qparams.group_size);
      EXPECT_EQ(result.qparams.group_axis, wanted.qparams.group_axis);
      EXPECT_TRUE(at::equal(decompress(result), decompress(wanted)));
    }
  }
}

TEST(LayerMatrix, RefusesOtherWeights) {
  const auto code = [](const at::Tensor& weight, const QuantizationSpec& spec) {
    return thrown_error([&] { LayerMatrix(weight, spec, "test"); }).code();
  };
  EXPECT_EQ(code(at::ones({2, 3, 4}), four_bits(0, 1)), ErrorCode::kInvalidArgument);
  EXPECT_EQ(code(at::ones({4, 4}, at::kInt), four_bits(0, 1)), ErrorCode::kInvalidArgument);
  EXPECT_EQ(code(at::ones({4, 12}), four_bits(8, 1)), ErrorCode::kInvalidArgument);
  EXPECT_EQ(code(at::ones({4, 4}), QuantizationSpec()), ErrorCode::kInvalidArgument);
  EXPECT_EQ(code(at::full({4, 4}, NAN), four_bits(0, 1)), ErrorCode::kCalibration);
  EXPECT_EQ(code(at::ones({0, 4}), four_bits(0, 1)), ErrorCode::kCalibration);
  auto spec = four_bits(0, 1);
  spec.narrow_range = true;
  EXPECT_EQ(code(at::ones({4, 4}), spec), ErrorCode::kInvalidArgument);
  spec = four_bits(0, 1);
  spec.ch_axis = 2;
  EXPECT_EQ(code(at::ones({4, 4}), spec), ErrorCode::kInvalidArgument);
  const auto channels = thrown_error([] { LayerMatrix(at::ones({4, 8}), four_bits(0, 1), "awq").check_channels(4); });
  EXPECT_EQ(channels.message(), "data of 4 channels for a weight with 8 inputs");
  EXPECT_EQ(channels.place(), "awq");
}

}  // namespace
}  // namespace tsquant::testing

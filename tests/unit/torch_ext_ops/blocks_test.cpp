// Arguments of the operators that choose parameters or work on tokens and groups; their values are in golden_test.cpp.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>

#include "call_op.h"

namespace tsquant::testing {
namespace {

TEST(ChooseQparams, DataWithoutARangeIsRefused) {
  const auto choose = [](const at::Tensor& x) {
    return [=] { call("choose_qparams.tensor", x, 0, 255, 1e-7, at::kByte); };
  };
  EXPECT_TRUE(fails_with(choose(at::empty({0})), "empty"));
  EXPECT_TRUE(fails_with(choose(at::tensor({1.0f, NAN})), "NaN"));
  EXPECT_TRUE(fails_with(choose(at::tensor({1.0f, INFINITY})), "infinity"));
  EXPECT_TRUE(fails_with(choose(at::tensor({-3e38f, 3e38f})), "overflows"));
  EXPECT_TRUE(fails_with(choose(at::ones({2}, at::kHalf)), "dtype float32"));
  const at::Tensor x = at::ones({2});
  EXPECT_TRUE(fails_with([&] { call("choose_qparams.tensor", x, 1, 255, 1e-7, at::kByte); }, "quant_min <= 0"));
  EXPECT_TRUE(fails_with([&] { call("choose_qparams.tensor", x, 0, 0, 1e-7, at::kByte); }, "quant_min < quant_max"));
  EXPECT_TRUE(fails_with([&] { call("choose_qparams.tensor", x, 0, 255, 1e-7, at::kLong); }, "unsupported dtype"));
}

TEST(ChooseQparams, EpsilonIsTheSmallestScale) {
  const at::Tensor x = at::zeros({4});
  EXPECT_EQ(call_tensor("choose_qparams.tensor", x, 0, 255, 0.25, at::kByte).item<double>(), 0.25);
  EXPECT_EQ(call_tensor("choose_qparams_symmetric.tensor", x, 0, 255, 0.5, at::kByte).item<double>(), 0.5);
}

TEST(PerToken, FlatParametersAreOnePerRow) {
  at::manual_seed(1);
  const at::Tensor x = at::randn({2, 3, 8}), scales = at::rand({6}) + 0.01f, zeros = at::zeros({6}, at::kInt);
  EXPECT_TRUE(identical(
      call_tensor("quantize_per_token", x, scales, zeros, -128, 127, at::kChar),
      call_tensor("quantize_per_token", x, scales.reshape({2, 3, 1}), zeros.reshape({2, 3, 1}), -128, 127, at::kChar)));
  EXPECT_TRUE(fails_with([&] { call("quantize_per_token", x, scales.slice(0, 1), zeros, -128, 127, at::kChar); },
                         "num_tokens: 6"));
  EXPECT_TRUE(fails_with([&] { call("quantize_per_token", x, scales - 1, zeros, -128, 127, at::kChar); },
                         "scales to be positive"));
}

TEST(PerToken, ZeroPointIsAddedBeforeRounding) {
  // round(0.5 + 1) = 2, where rounding first would give 0 + 1.
  const at::Tensor x = at::tensor({0.5f}), scale = at::ones({1}), zero_point = at::ones({1}, at::kInt);
  EXPECT_EQ(call_tensor("quantize_per_token", x, scale, zero_point, -128, 127, at::kChar).item<int64_t>(), 2);
  EXPECT_EQ(call_tensor("quantize_per_tensor", x, 1.0, 1, -128, 127, at::kChar).item<int64_t>(), 1);
}

TEST(PerToken, OtherDtypesThanInt8AreRefused) {
  const at::Tensor x = at::ones({2, 2});
  EXPECT_TRUE(fails_with([&] { call("choose_qparams_per_token", x, at::kByte); }, "unsupported dtype"));
  EXPECT_TRUE(fails_with([&] { call("choose_qparams_per_token_asymmetric", x, at::kInt); }, "unsupported dtype"));
}

TEST(PerChannelGroup, GroupsAreChecked) {
  const at::Tensor x = at::ones({2, 8}), scales = at::ones({2, 2}), zeros = at::zeros({2, 2}, at::kInt);
  const auto run = [&](const at::Tensor& weight, const at::Tensor& s, int64_t size) {
    return [=] { call("quantize_per_channel_group", weight, s, zeros, -8, 7, at::kChar, size); };
  };
  EXPECT_TRUE(fails_with(run(x, scales, 1), "group_size to be > 1"));
  EXPECT_TRUE(fails_with(run(x, scales, 3), "divisible by group_size"));
  EXPECT_TRUE(fails_with(run(x, scales, 2), "scales of shape [2, 4]"));
  EXPECT_TRUE(fails_with(run(x.reshape({2, 2, 4}), scales, 4), "2-d weight"));
  EXPECT_TRUE(fails_with(run(at::full({2, 8}, NAN), scales, 4), "NaN"));
  EXPECT_TRUE(fails_with(run(x, scales * 0, 4), "scales to be positive"));
}

TEST(PerChannelGroup, OneScalePerRowServesAnyGroupSize) {
  at::manual_seed(2);
  const at::Tensor x = at::randn({3, 6}), scales = at::rand({3, 1}) + 0.1f, zeros = at::zeros({3, 1}, at::kInt);
  const at::Tensor q = call_tensor("quantize_per_channel_group", x, scales, zeros, -8, 7, at::kChar, 128);
  EXPECT_TRUE(identical(q, call_tensor("quantize_per_channel_group", x, scales, zeros, -8, 7, at::kChar, 6)));
  const at::Tensor y =
      call_tensor("dequantize_per_channel_group", q, scales, none(), -8, 7, at::kChar, 128, at::kFloat);
  EXPECT_TRUE(identical(y, q.to(at::kFloat) * scales));
}

TEST(ConvertElementType, Converts) {
  EXPECT_TRUE(identical(call_tensor("convert_element_type.no_fuse", at::tensor({1.7f, -2.0f}), at::kInt),
                        at::tensor({1, -2}, at::kInt)));
}

}  // namespace
}  // namespace tsquant::testing

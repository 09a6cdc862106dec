#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>

#include "call_op.h"

namespace tsquant::testing::per_channel_test {
namespace {

struct Code {
  at::ScalarType plain, quantized;
  int64_t lowest, highest;
};
const Code kCodes[] = {{at::kChar, at::kQInt8, -128, 127}, {at::kByte, at::kQUInt8, 0, 255}};

at::Tensor quantize(const at::Tensor& x, const at::Tensor& scales, const at::Tensor& zero_points, int64_t axis,
                    const Code& code) {
  return call_tensor("quantize_per_channel", x, scales, zero_points, axis, code.lowest, code.highest, code.plain);
}

at::Tensor dequantize(const at::Tensor& q, const at::Tensor& scales, const c10::IValue& zero_points, int64_t axis,
                      const Code& code) {
  return call_tensor("dequantize_per_channel", q, scales, zero_points, axis, code.lowest, code.highest, code.plain,
                     none());
}

/// Scales over several magnitudes, zero points over all codes.
std::pair<at::Tensor, at::Tensor> random_params(int64_t channels, const Code& code, at::ScalarType scale_dtype) {
  return {at::pow(10.0, at::rand({channels}, at::kDouble) * 5 - 4).to(scale_dtype),
          at::randint(code.lowest, code.highest + 1, {channels}, at::kLong)};
}

/// Half of the values are exact ties of their own channel.
at::Tensor awkward_values(at::IntArrayRef sizes, const at::Tensor& scales, int64_t axis) {
  std::vector<int64_t> shape(sizes.size(), 1);
  shape[axis] = scales.numel();
  const at::Tensor scale = scales.to(at::kFloat).reshape(shape);
  const at::Tensor ties = at::randint(-700, 700, sizes).to(at::kFloat) * 0.5f * scale;
  return at::where(at::rand(sizes) < 0.5, ties, at::randn(sizes) * 100 * scale);
}

TEST(PerChannel, BitIdenticalWithAten) {
  at::manual_seed(1);
  for (const Code& code : kCodes) {
    for (const auto scale_dtype : {at::kFloat, at::kDouble}) {
      for (const auto& [sizes, axis] : std::vector<std::pair<std::vector<int64_t>, int64_t>>{{{16, 8, 3, 3}, 0},
                                                                                             {{16, 8, 3, 3}, 1},
                                                                                             {{4, 5, 6, 130}, 3},
                                                                                             {{7, 300}, 0},
                                                                                             {{300, 7}, 1},
                                                                                             {{33}, 0},
                                                                                             {{2, 64, 40, 40}, 1},
                                                                                             {{1, 1, 9}, 1},
                                                                                             {{32, 1, 3, 3}, 0}}) {
        for (int trial = 0; trial < 10; ++trial) {
          const auto [scales, zero_points] = random_params(sizes[axis], code, scale_dtype);
          const at::Tensor x = awkward_values(sizes, scales, axis);
          const at::Tensor aten = at::quantize_per_channel(x, scales, zero_points, axis, code.quantized);
          const at::Tensor ours = quantize(x, scales, zero_points, axis, code);
          ASSERT_TRUE(identical(ours, aten.int_repr())) << x.sizes() << " axis " << axis;
          ASSERT_TRUE(identical(dequantize(ours, scales, zero_points, axis, code), aten.dequantize()))
              << x.sizes() << " axis " << axis << " scales " << scale_dtype;
        }
      }
    }
  }
}

TEST(PerChannel, EveryCodeDequantizesAsAten) {
  at::manual_seed(2);
  for (const Code& code : kCodes) {
    const at::Tensor codes = at::arange(code.lowest, code.highest + 1).to(code.plain).repeat({50, 1});
    const auto [scales, zero_points] = random_params(50, code, at::kDouble);
    const at::Tensor aten = at::_make_per_channel_quantized_tensor(codes, scales, zero_points, 0).dequantize();
    EXPECT_TRUE(identical(dequantize(codes, scales, zero_points, 0, code), aten));
  }
}

TEST(PerChannel, LayoutsAreKept) {
  at::manual_seed(3);
  const Code& code = kCodes[0];
  const at::Tensor base = at::randn({4, 6, 5, 3});
  const at::Tensor inputs[] = {base,
                               base.contiguous(at::MemoryFormat::ChannelsLast),
                               base.permute({3, 0, 2, 1}),
                               base.slice(1, 1, 5, 2),
                               base.slice(2, 0, 1),
                               at::randn({4, 0, 5, 3}),
                               base.select(1, 0).unsqueeze(1).expand({4, 3, 5, 3})};
  for (const at::Tensor& x : inputs) {
    for (int64_t axis = 0; axis < 4; ++axis) {
      const auto [scales, zero_points] = random_params(x.size(axis), code, at::kFloat);
      const at::Tensor q = quantize(x, scales, zero_points, axis, code);
      EXPECT_TRUE(identical(q, quantize(x.contiguous(), scales, zero_points, axis, code))) << x.sizes() << axis;
      EXPECT_EQ(q.strides(), at::empty_like(x).strides()) << x.sizes();
      EXPECT_TRUE(identical(quantize(x, scales, zero_points, axis - 4, code), q));
      const at::Tensor y = dequantize(q, scales, zero_points, axis, code);
      EXPECT_TRUE(identical(y, dequantize(q.contiguous(), scales, zero_points, axis, code))) << x.sizes() << axis;
      EXPECT_EQ(y.strides(), q.strides()) << x.sizes();
    }
  }
}

TEST(PerChannel, MissingZeroPointsAreZero) {
  const at::Tensor q = at::randint(-128, 128, {3, 5}).to(at::kChar), scales = at::rand({3});
  EXPECT_TRUE(identical(dequantize(q, scales, none(), 0, kCodes[0]),
                        dequantize(q, scales, at::zeros({3}, at::kInt), 0, kCodes[0])));
}

TEST(PerChannel, FractionalZeroPointsAreKept) {
  const at::Tensor q = at::tensor({10, 20, 30, 40}, at::kChar).reshape({2, 2});
  const at::Tensor scales = at::tensor({0.5f, 2.0f}), zero_points = at::tensor({0.25f, -1.5f});
  EXPECT_TRUE(identical(dequantize(q, scales, zero_points, 0, kCodes[0]),
                        at::tensor({4.875f, 9.875f, 63.0f, 83.0f}).reshape({2, 2})));
}

TEST(PerChannel, OutputTypeAndWideCodes) {
  at::manual_seed(4);
  const at::Tensor x = at::randn({6, 4}) * 100, scales = at::rand({4}) + 0.1f, zero_points = at::zeros({4}, at::kInt);
  const at::Tensor q = call_tensor("quantize_per_channel", x, scales, zero_points, 1, -32768, 32767, at::kShort);
  EXPECT_TRUE(identical(q, at::round(x * (1.0f / scales)).to(at::kShort)));
  for (const auto dtype : {at::kHalf, at::kBFloat16, at::kDouble}) {
    const at::Tensor y =
        call_tensor("dequantize_per_channel", q, scales, zero_points, 1, -32768, 32767, at::kShort, dtype);
    EXPECT_TRUE(identical(y, (q.to(at::kFloat) * scales).to(dtype)));
  }
}

TEST(PerChannel, ArgumentsAreChecked) {
  const at::Tensor x = at::ones({2, 3}), q = at::ones({2, 3}, at::kChar);
  const at::Tensor two = at::ones({2}), zeros = at::zeros({2}, at::kLong);
  const auto run = [&](const at::Tensor& scales, const at::Tensor& zero_points, int64_t axis) {
    return [=] { call("quantize_per_channel", x, scales, zero_points, axis, -128, 127, at::kChar); };
  };
  EXPECT_TRUE(fails_with(run(two, zeros, 2), "Expecting axis to be < 2"));
  EXPECT_TRUE(fails_with(run(two, zeros, -3), "Expecting axis to be < 2"));
  EXPECT_TRUE(fails_with(run(two, zeros, 1), "one scale per channel"));
  EXPECT_TRUE(fails_with(run(two, at::zeros({3}), 0), "one zero point per channel"));
  EXPECT_TRUE(fails_with(run(two.reshape({2, 1}), zeros, 0), "one scale per channel"));
  EXPECT_TRUE(fails_with(run(at::tensor({1.0f, 0.0f}), zeros, 0), "scale to be positive"));
  EXPECT_TRUE(fails_with(run(at::tensor({1.0f, NAN}), zeros, 0), "scale to be positive"));
  EXPECT_TRUE(fails_with([&] { call("quantize_per_channel", x, two, zeros, 0, -128, 128, at::kChar); },
                         "quant_max out of bound"));
  EXPECT_TRUE(fails_with([&] { call("dequantize_per_channel", q, two, none(), 0, 0, 255, at::kByte, none()); },
                         "Expecting input to have dtype Byte"));
  EXPECT_TRUE(fails_with(
      [&] {
        call("dequantize_per_channel", q, at::tensor({1.0f, NAN}), none(), 0, -128, 127, at::kChar, none());
      },
      "scale to be finite"));
}

TEST(FakeQuantPerChannel, ValueAndStraightThroughGradient) {
  at::manual_seed(5);
  const at::Tensor x = (at::randn({4, 50}) * 3).set_requires_grad(true);
  const at::Tensor scales = at::tensor({0.01f, 0.02f, 0.05f, 0.1f}),
                   zero_points = at::tensor({0, 3, -5, 100}, at::kInt);
  const at::Tensor y = call_tensor("fake_quant_per_channel", x, scales, zero_points, 0, -128, 127);
  const at::Tensor q = quantize(x.detach(), scales, zero_points, 0, kCodes[0]);
  EXPECT_TRUE(identical(y.detach(), dequantize(q, scales, zero_points, 0, kCodes[0])));
  y.sum().backward();
  const at::Tensor codes = at::round(x.detach() * (1.0f / scales).unsqueeze(1)) + zero_points.unsqueeze(1);
  const at::Tensor inside = (codes >= -128).logical_and(codes <= 127).to(at::kFloat);
  EXPECT_TRUE(identical(x.grad(), inside));
  EXPECT_GT(inside.sum().item<float>(), 0);
  EXPECT_LT(inside.sum().item<float>(), 200);
  at::NoGradGuard no_grad;
  EXPECT_FALSE(call_tensor("fake_quant_per_channel", x, scales, zero_points, 0, -128, 127).requires_grad());
}

}  // namespace
}  // namespace tsquant::testing::per_channel_test

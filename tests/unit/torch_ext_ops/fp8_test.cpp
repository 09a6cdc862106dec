#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>

#include "call_op.h"
#include "numerics/minifloat.h"

namespace tsquant::testing {
namespace {

at::Tensor call_fp8(const char* name, const at::Tensor& x, const at::Tensor& scale, c10::optional<int64_t> axis,
                    const std::string& format) {
  const auto op = c10::Dispatcher::singleton().findSchemaOrThrow(name, "");
  torch::jit::Stack stack{x, scale, axis ? c10::IValue(*axis) : c10::IValue(), format};
  op.callBoxed(&stack);
  return stack.at(0).toTensor();
}

class Fp8 : public ::testing::TestWithParam<bool> {
 protected:
  const Minifloat& format() const { return GetParam() ? kE4M3 : kE5M2; }
  std::string name() const { return GetParam() ? "f8e4m3" : "f8e5m2"; }
};

INSTANTIATE_TEST_SUITE_P(Formats, Fp8, ::testing::Bool(),
                         [](const auto& info) { return info.param ? "E4M3" : "E5M2"; });

TEST_P(Fp8, EveryFiniteValueIsItsOwnCode) {
  int finite = 0;
  for (int code = 0; code < 256; ++code) {
    const float value = decode(static_cast<uint8_t>(code), format());
    if (!std::isfinite(value)) continue;
    ++finite;
    EXPECT_EQ(encode(value, format()), code);
  }
  // E4M3 has two NaN codes; E5M2 has two infinities and six NaN codes.
  EXPECT_EQ(finite, GetParam() ? 254 : 248);
}

TEST_P(Fp8, EncodesToTheNearestValue) {
  at::manual_seed(3);
  const auto x = at::randn({4000}) * at::pow(at::full({4000}, 2.0), at::randint(-18, 9, {4000}));
  for (int64_t i = 0; i < x.numel(); ++i) {
    const auto value = x[i].item<float>();
    if (std::fabs(value) > format().highest) continue;
    const double got = std::fabs(decode(encode(value, format()), format()) - value);
    for (int code = 0; code < 256; ++code) {
      const float other = decode(static_cast<uint8_t>(code), format());
      if (std::isfinite(other)) ASSERT_LE(got, std::fabs(other - value)) << value << " is closer to " << other;
    }
  }
}

TEST_P(Fp8, SaturatesAndKeepsNaN) {
  const float highest = format().highest;
  EXPECT_EQ(decode(encode(1e30F, format()), format()), highest);
  EXPECT_EQ(decode(encode(-INFINITY, format()), format()), -highest);
  EXPECT_TRUE(std::isnan(decode(encode(NAN, format()), format())));
}

TEST(Fp8Codes, AreThoseOfTheFormats) {
  EXPECT_EQ(encode(1.0F, kE4M3), 0x38);
  EXPECT_EQ(encode(-448.0F, kE4M3), 0xFE);
  EXPECT_EQ(encode(std::ldexp(1.0F, -9), kE4M3), 0x01);   // the smallest subnormal
  EXPECT_EQ(encode(std::ldexp(1.0F, -10), kE4M3), 0x00);  // a tie goes to the even code
  EXPECT_EQ(encode(1.0F, kE5M2), 0x3C);
  EXPECT_EQ(encode(57344.0F, kE5M2), 0x7B);
  EXPECT_EQ(encode(1.0625F, kE4M3), 0x38);  // half way between 1 and 1.125
  EXPECT_EQ(encode(1.1875F, kE4M3), 0x3A);  // half way between 1.125 and 1.25
}

TEST_P(Fp8, OperatorsScalePerTensorAndPerChannel) {
  at::manual_seed(5);
  const auto x = at::randn({3, 40});
  const auto scale = at::tensor({0.01F, 0.1F, 1.0F});
  const auto codes = call_fp8("tsquant::quantize_fp8", x, scale, 0, name());
  EXPECT_EQ(codes.scalar_type(), at::kByte);
  const auto y = call_fp8("tsquant::dequantize_fp8", codes, scale, 0, name());
  const double step = GetParam() ? 1.0 / 16 : 1.0 / 8;
  EXPECT_TRUE(((y - x).abs() <= x.abs() * step + scale.view({3, 1}) * 0.01).all().item<bool>());
  const auto row = call_fp8("tsquant::quantize_fp8", x[1].contiguous(), scale.narrow(0, 1, 1), c10::nullopt, name());
  EXPECT_TRUE(at::equal(row, codes[1]));
}

TEST(Fp8Operators, RefuseWrongArguments) {
  const auto x = at::randn({2, 3}), one = at::ones({1});
  EXPECT_TRUE(fails_with([&] { call_fp8("tsquant::quantize_fp8", x, one, c10::nullopt, "f8"); }, "f8e4m3 or f8e5m2"));
  EXPECT_TRUE(fails_with([&] { call_fp8("tsquant::quantize_fp8", x, one, 1, "f8e4m3"); }, "Expecting 3 scales"));
  EXPECT_TRUE(fails_with([&] { call_fp8("tsquant::quantize_fp8", x, one, 2, "f8e4m3"); }, "Axis 2"));
  EXPECT_TRUE(fails_with([&] { call_fp8("tsquant::dequantize_fp8", x, one, c10::nullopt, "f8e4m3"); }, "uint8"));
}

}  // namespace
}  // namespace tsquant::testing

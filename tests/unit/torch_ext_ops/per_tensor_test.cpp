#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>

#include "call_op.h"

namespace tsquant::testing {
namespace {

struct Code {
  at::ScalarType plain, quantized;
  int64_t lowest, highest;
};
const Code kCodes[] = {{at::kChar, at::kQInt8, -128, 127}, {at::kByte, at::kQUInt8, 0, 255}};

at::Tensor quantize(const at::Tensor& x, double scale, int64_t zero_point, const Code& code) {
  return call_tensor("quantize_per_tensor", x, scale, zero_point, code.lowest, code.highest, code.plain);
}

at::Tensor dequantize(const at::Tensor& q, double scale, int64_t zero_point, const Code& code) {
  return call_tensor("dequantize_per_tensor", q, scale, zero_point, code.lowest, code.highest, code.plain, none());
}

/// Random values, exact ties and their neighbours, far outside the range too.
at::Tensor awkward_values(int64_t n, double scale) {
  const at::Tensor ties = (at::randint(-700, 700, {n}).to(at::kFloat) * 0.5f) * scale;
  const at::Tensor above = at::nextafter(ties, at::full({}, INFINITY)),
                   below = at::nextafter(ties, at::full({}, -INFINITY));
  const at::Tensor other = at::randn({n}) * (100 * scale);
  return at::cat({ties, above, below, other, other * 1e6});
}

TEST(PerTensor, BitIdenticalWithAten) {
  at::manual_seed(1);
  for (const Code& code : kCodes) {
    for (int trial = 0; trial < 400; ++trial) {
      // Odd trials take scales that float32 does not hold.
      double scale = std::pow(10.0, at::rand({1}, at::kDouble).item<double>() * 8 - 6);
      if (trial % 2 == 0) scale = static_cast<float>(scale);
      const int64_t zero_point = at::randint(code.lowest, code.highest + 1, {1}).item<int64_t>();
      const at::Tensor x = awkward_values(300, scale);
      const at::Tensor aten = at::quantize_per_tensor(x, scale, zero_point, code.quantized);
      const at::Tensor ours = quantize(x, scale, zero_point, code);
      ASSERT_TRUE(identical(ours, aten.int_repr())) << "scale " << scale << " zero point " << zero_point;
      ASSERT_TRUE(identical(dequantize(ours, scale, zero_point, code), aten.dequantize()))
          << "scale " << scale << " zero point " << zero_point;
    }
  }
}

TEST(PerTensor, EveryCodeDequantizesAsAten) {
  at::manual_seed(2);
  for (const Code& code : kCodes) {
    const at::Tensor codes = at::arange(code.lowest, code.highest + 1).to(code.plain);
    for (int64_t zero_point = code.lowest; zero_point <= code.highest; zero_point += 5) {
      const double scale = at::rand({1}, at::kDouble).item<double>();
      const at::Tensor aten = at::_make_per_tensor_quantized_tensor(codes, scale, zero_point).dequantize();
      ASSERT_TRUE(identical(dequantize(codes, scale, zero_point, code), aten)) << scale << " " << zero_point;
    }
  }
}

TEST(PerTensor, NanIsTheLowestCodeAsInAtenAndInfinitySaturates) {
  const at::Tensor nan = at::full({3}, NAN);
  for (const Code& code : kCodes) {
    EXPECT_TRUE(
        identical(quantize(nan, 0.1, 7, code), at::quantize_per_tensor(nan, 0.1, 7, code.quantized).int_repr()));
    const at::Tensor x = at::tensor({INFINITY, -INFINITY, 3e38f, -3e38f});
    const at::Tensor expected = at::tensor({code.highest, code.lowest, code.highest, code.lowest}).to(code.plain);
    EXPECT_TRUE(identical(quantize(x, 0.1, 7, code), expected));
  }
}

TEST(PerTensor, QuantRangeNarrowsTheCodes) {
  const at::Tensor x = at::linspace(-10, 10, 101);
  const at::Tensor q = call_tensor("quantize_per_tensor", x, 0.1, 2, -7, 6, at::kChar);
  EXPECT_EQ(q.min().item<int64_t>(), -7);
  EXPECT_EQ(q.max().item<int64_t>(), 6);
  EXPECT_EQ(q[50].item<int64_t>(), 2);
}

TEST(PerTensor, TensorOverloadsEqualTheScalarOne) {
  at::manual_seed(3);
  const at::Tensor x = at::randn({5, 7});
  const at::Tensor scale = at::tensor({0.037f}), zero_point = at::tensor({int64_t{11}});
  const double scalar = scale.item<double>();
  const at::Tensor low = at::tensor({int64_t{-100}}), high = at::tensor({int64_t{90}});
  const at::Tensor q = call_tensor("quantize_per_tensor", x, scalar, 11, -100, 90, at::kChar);
  EXPECT_TRUE(identical(call_tensor("quantize_per_tensor.tensor", x, scale, zero_point, -100, 90, at::kChar), q));
  EXPECT_TRUE(identical(call_tensor("quantize_per_tensor.tensor2", x, scale, zero_point, low, high, at::kChar), q));
  const at::Tensor y = call_tensor("dequantize_per_tensor", q, scalar, 11, -100, 90, at::kChar, none());
  EXPECT_TRUE(
      identical(call_tensor("dequantize_per_tensor.tensor", q, scale, zero_point, -100, 90, at::kChar, none()), y));
  EXPECT_TRUE(
      identical(call_tensor("dequantize_per_tensor.tensor2", q, scale, zero_point, low, high, at::kChar, none()), y));
}

TEST(PerTensor, LayoutsAreKept) {
  at::manual_seed(4);
  const at::Tensor base = at::randn({2, 6, 5, 4});
  const at::Tensor inputs[] = {base,
                               base.contiguous(at::MemoryFormat::ChannelsLast),
                               base.permute({3, 0, 2, 1}),
                               base.slice(1, 1, 5, 2),
                               base.select(0, 1),
                               base.expand({3, 2, 6, 5, 4}),
                               at::randn({}),
                               at::randn({0, 3}),
                               at::randn({2, 3, 4, 5, 6}).permute({0, 4, 1, 2, 3})};
  for (const at::Tensor& x : inputs) {
    for (const Code& code : kCodes) {
      const at::Tensor q = quantize(x, 0.05, 3, code);
      EXPECT_TRUE(identical(q, quantize(x.contiguous(), 0.05, 3, code))) << x.sizes();
      EXPECT_EQ(q.strides(), at::empty_like(x).strides()) << x.sizes();
      const at::Tensor y = dequantize(q, 0.05, 3, code);
      EXPECT_TRUE(identical(y, dequantize(q.contiguous(), 0.05, 3, code))) << x.sizes();
      EXPECT_EQ(y.strides(), q.strides()) << x.sizes();
      // A view of codes, as a slice in the int8 domain leaves it.
      if (q.dim() < 2) continue;
      EXPECT_TRUE(identical(dequantize(q.transpose(0, 1), 0.05, 3, code), y.transpose(0, 1)));
    }
  }
}

TEST(PerTensor, LargeTensorsAreSplitBetweenThreads) {
  at::manual_seed(5);
  const at::Tensor x = at::randn({300001});
  const at::Tensor aten = at::quantize_per_tensor(x, 0.02f, 120, at::kQUInt8);
  const at::Tensor q = quantize(x, 0.02f, 120, kCodes[1]);
  EXPECT_TRUE(identical(q, aten.int_repr()));
  EXPECT_TRUE(identical(dequantize(q, 0.02f, 120, kCodes[1]), aten.dequantize()));
}

TEST(PerTensor, HalfTypesAreWidened) {
  at::manual_seed(6);
  for (const auto dtype : {at::kHalf, at::kBFloat16}) {
    const at::Tensor x = at::randn({40}).to(dtype);
    EXPECT_TRUE(identical(quantize(x, 0.03, 1, kCodes[0]), quantize(x.to(at::kFloat), 0.03, 1, kCodes[0])));
    const at::Tensor q = quantize(x, 0.03, 1, kCodes[0]);
    const at::Tensor y = call_tensor("dequantize_per_tensor", q, 0.03, 1, -128, 127, at::kChar, dtype);
    EXPECT_TRUE(identical(y, (q.to(dtype) - 1) * 0.03));
  }
}

TEST(PerTensor, WideCodesFollowAtensInt32) {
  const at::Tensor x = at::tensor({0.5f, 1.5f, -2.5f, 3e9f, -3e9f, 1e6f, 16777217.0f, 2147483520.0f});
  const int64_t lowest = std::numeric_limits<int32_t>::min(), highest = std::numeric_limits<int32_t>::max();
  const at::Tensor q = call_tensor("quantize_per_tensor", x, 1.0, 3, lowest, highest, at::kInt);
  EXPECT_TRUE(identical(q, at::quantize_per_tensor(x, 1.0, 3, at::kQInt32).int_repr()));
  const at::Tensor codes = at::tensor({123456789, 16777217, -5, 2147483000}, at::kInt);
  EXPECT_TRUE(identical(call_tensor("dequantize_per_tensor", codes, 0.1, 5, lowest, highest, at::kInt, none()),
                        at::_make_per_tensor_quantized_tensor(codes, 0.1, 5).dequantize()));
  const at::Tensor narrow = call_tensor("quantize_per_tensor", x, 1.0, 3, -32768, 32767, at::kShort);
  EXPECT_TRUE(identical(narrow, at::tensor({3, 5, 1, 32767, -32768, 32767, 32767, 32767}, at::kShort)));
}

TEST(PerTensor, ZeroPointOutsideTheCodesIsArithmetic) {
  const at::Tensor x = at::tensor({-5.0f, 0.0f, 5.0f});
  EXPECT_TRUE(identical(call_tensor("quantize_per_tensor", x, 1.0, -130, -128, 127, at::kChar),
                        at::tensor({-128, -128, -125}, at::kChar)));
  EXPECT_TRUE(identical(call_tensor("quantize_per_tensor", x, 1.0, int64_t{1} << 40, -128, 127, at::kChar),
                        at::tensor({127, 127, 127}, at::kChar)));
}

TEST(PerTensor, ArgumentsAreChecked) {
  const at::Tensor x = at::ones({2}), q = at::ones({2}, at::kChar);
  const auto quantize_with = [](const at::Tensor& input, double scale, int64_t low, int64_t high,
                                at::ScalarType dtype) {
    return [=] { call_tensor("quantize_per_tensor", input, scale, 0, low, high, dtype); };
  };
  EXPECT_TRUE(fails_with(quantize_with(x, 1.0, -129, 127, at::kChar), "quant_min out of bound"));
  EXPECT_TRUE(fails_with(quantize_with(x, 1.0, 0, 256, at::kByte), "quant_max out of bound"));
  EXPECT_TRUE(fails_with(quantize_with(x, 1.0, 5, 4, at::kByte), "quant_min to be at most quant_max"));
  EXPECT_TRUE(fails_with(quantize_with(x, 1.0, 0, 1, at::kLong), "unsupported dtype"));
  EXPECT_TRUE(fails_with(quantize_with(x.to(at::kDouble), 1.0, 0, 1, at::kByte), "float32, float16 or bfloat16"));
  EXPECT_TRUE(fails_with(quantize_with(q, 1.0, 0, 1, at::kByte), "float32, float16 or bfloat16"));
  for (const double scale : {0.0, -1.0, std::nan(""), HUGE_VAL, 1e-60, 1e60}) {
    EXPECT_TRUE(fails_with(quantize_with(x, scale, 0, 255, at::kByte), "scale to be positive and finite")) << scale;
  }
  EXPECT_TRUE(fails_with([&] { call("dequantize_per_tensor", q, 1.0, 0, 0, 255, at::kByte, none()); },
                         "Expecting input to have dtype Byte, but got dtype: Char"));
  EXPECT_TRUE(
      fails_with([&] { call("dequantize_per_tensor", q, NAN, 0, 0, 255, at::kChar, none()); }, "scale to be finite"));
  EXPECT_TRUE(fails_with([&] { call("dequantize_per_tensor", q, 1.0, 0, 0, 255, at::kChar, at::kInt); },
                         "floating output dtype"));
  EXPECT_TRUE(
      fails_with([&] { call("quantize_per_tensor.tensor", x, at::ones({2}), at::zeros({1}), 0, 255, at::kByte); },
                 "scale tensor to be one element"));
  EXPECT_TRUE(fails_with(
      [&] {
        call("quantize_per_tensor.tensor2", x, at::ones({1}), at::zeros({1}), at::zeros({2}), at::ones({1}), at::kByte);
      },
      "quant_min tensor to be one element"));
}

}  // namespace
}  // namespace tsquant::testing

// Meta kernels give the shape, dtype and strides of the real ones; the composed kernels, which other devices use, give
// their values.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "call_op.h"
#include "ops/quantized_decomposed.h"

namespace tsquant::testing {
namespace {

at::Tensor meta(const at::Tensor& x) {
  return at::empty_strided(x.sizes(), x.strides(), x.options().device(at::kMeta));
}

/// Runs an operator on real tensors and on meta copies of them and compares all but the values.
template <class... Args>
void expect_same_shape(const std::string& name, Args... args) {
  SCOPED_TRACE(name);
  torch::jit::Stack real{c10::IValue(args)...}, shapes;
  for (const auto& argument : real) {
    shapes.push_back(argument.isTensor() ? c10::IValue(meta(argument.toTensor())) : argument);
  }
  const size_t dot = name.find('.');
  const auto op =
      c10::Dispatcher::singleton().findSchemaOrThrow(("quantized_decomposed::" + name.substr(0, dot)).c_str(),
                                                     dot == std::string::npos ? "" : name.substr(dot + 1).c_str());
  op.callBoxed(&real);
  op.callBoxed(&shapes);
  ASSERT_EQ(real.size(), shapes.size());
  for (size_t i = 0; i < real.size(); ++i) {
    const at::Tensor a = real[i].toTensor(), b = shapes[i].toTensor();
    EXPECT_TRUE(b.is_meta());
    EXPECT_EQ(a.sizes(), b.sizes());
    EXPECT_EQ(a.strides(), b.strides());
    EXPECT_EQ(a.scalar_type(), b.scalar_type());
  }
}

TEST(Meta, ShapesOfEveryOperator) {
  at::manual_seed(1);
  const at::Tensor scale = at::ones({1}), zero = at::zeros({1}, at::kLong), low = zero, high = at::full({1}, 100);
  for (const at::Tensor& x :
       {at::randn({2, 6, 4, 4}), at::randn({2, 6, 4, 4}).contiguous(at::MemoryFormat::ChannelsLast),
        at::randn({4, 6, 3, 2}).permute({0, 1, 3, 2}), at::randn({2, 12, 4}).slice(1, 0, 12, 2)}) {
    const at::Tensor q = x.to(at::kByte), scales = at::ones({6}), zeros = at::zeros({6}, at::kLong);
    const std::vector<int64_t> rows = [&] {
      auto sizes = x.sizes().vec();
      sizes.back() = 1;
      return sizes;
    }();
    const at::Tensor row_scales = at::ones(rows), row_zeros = at::zeros(rows, at::kInt);
    expect_same_shape("quantize_per_tensor", x, 0.5, 3, 0, 100, at::kByte);
    expect_same_shape("quantize_per_tensor.tensor", x, scale, zero, 0, 100, at::kShort);
    expect_same_shape("quantize_per_tensor.tensor2", x, scale, zero, low, high, at::kInt);
    expect_same_shape("dequantize_per_tensor", q, 0.5, 3, 0, 100, at::kByte, none());
    expect_same_shape("dequantize_per_tensor.tensor", q, scale, zero, 0, 100, at::kByte, at::kHalf);
    expect_same_shape("dequantize_per_tensor.tensor2", q, scale, zero, low, high, at::kByte, at::kDouble);
    expect_same_shape("quantize_per_channel", x, scales, zeros, 1, 0, 100, at::kByte);
    expect_same_shape("dequantize_per_channel", q, scales, zeros, 1, 0, 100, at::kByte, none());
    expect_same_shape("dequantize_per_channel", q, scales, none(), 1, 0, 100, at::kByte, at::kBFloat16);
    expect_same_shape("choose_qparams.tensor", x, 0, 255, 1e-7, at::kByte);
    expect_same_shape("choose_qparams_symmetric.tensor", x, -128, 127, 1e-7, at::kChar);
    expect_same_shape("choose_qparams_per_token", x, at::kChar);
    expect_same_shape("choose_qparams_per_token_asymmetric", x, at::kChar);
    expect_same_shape("quantize_per_token", x, row_scales, row_zeros, -128, 127, at::kChar);
    expect_same_shape("dequantize_per_token", q, row_scales, row_zeros, 0, 255, at::kByte, at::kFloat);
    expect_same_shape("convert_element_type.no_fuse", x, at::kHalf);
    expect_same_shape("fake_quant_per_channel", x, scales, zeros, 1, 0, 255);
  }
  const at::Tensor weight = at::randn({3, 8}), group_scales = at::ones({3, 2}),
                   group_zeros = at::zeros({3, 2}, at::kInt);
  const at::Tensor codes = weight.to(at::kChar);
  expect_same_shape("quantize_per_channel_group", weight, group_scales, group_zeros, -8, 7, at::kChar, 4);
  expect_same_shape("dequantize_per_channel_group", codes, group_scales, none(), -8, 7, at::kChar, 4, at::kHalf);
  expect_same_shape("choose_qparams_per_token", weight.to(at::kHalf).to(at::kFloat), at::kChar);
}

TEST(Meta, ArgumentsAreChecked) {
  const at::Tensor x = meta(at::ones({2, 3})), scales = meta(at::ones({2}));
  EXPECT_TRUE(fails_with([&] { call("quantize_per_tensor", x, 0.0, 0, 0, 255, at::kByte); }, "scale to be positive"));
  EXPECT_TRUE(fails_with([&] { call("quantize_per_tensor", x, 1.0, 0, 0, 256, at::kByte); }, "quant_max out of bound"));
  EXPECT_TRUE(
      fails_with([&] { call("quantize_per_tensor.tensor", x, scales, scales, 0, 255, at::kByte); }, "one element"));
  EXPECT_TRUE(fails_with([&] { call("quantize_per_channel", x, scales, scales, 1, 0, 255, at::kByte); },
                         "one scale per channel"));
  EXPECT_TRUE(fails_with([&] { call("dequantize_per_tensor", x, 1.0, 0, 0, 255, at::kByte, none()); },
                         "Expecting input to have dtype"));
  EXPECT_TRUE(fails_with([&] { call("choose_qparams.tensor", x, 5, 5, 1e-7, at::kByte); }, "smaller than quant_max"));
}

TEST(Composed, EqualsTheLoops) {
  at::manual_seed(2);
  using namespace tsquant::decomposed;
  const at::Tensor ties = at::randint(-600, 600, {6, 40}).to(at::kFloat) * 0.5f;
  const at::Tensor x = at::cat({ties, at::randn({6, 40}) * 100, at::full({6, 1}, NAN), at::full({6, 1}, INFINITY)}, 1);
  const at::Tensor scales = at::rand({6}) + 0.5f, zero_points = at::randint(-20, 20, {6}, at::kLong);
  for (const auto dtype : {at::kChar, at::kByte, at::kShort, at::kInt}) {
    const int64_t low = dtype == at::kByte ? 0 : -128, high = 127;
    const at::Tensor q = cpu::quantize_per_tensor(x, 1.0, 7, low, high, dtype);
    EXPECT_TRUE(identical(composed::quantize_per_tensor(x, 1.0, 7, low, high, dtype), q));
    EXPECT_TRUE(identical(composed::dequantize_per_tensor(q, 0.3, 7, low, high, dtype, c10::nullopt),
                          cpu::dequantize_per_tensor(q, 0.3, 7, low, high, dtype, c10::nullopt)));
    const at::Tensor c = cpu::quantize_per_channel(x, scales, zero_points, 0, low, high, dtype);
    EXPECT_TRUE(identical(composed::quantize_per_channel(x, scales, zero_points, 0, low, high, dtype), c));
    EXPECT_TRUE(identical(composed::dequantize_per_channel(c, scales, zero_points, 0, low, high, dtype, c10::nullopt),
                          cpu::dequantize_per_channel(c, scales, zero_points, 0, low, high, dtype, c10::nullopt)));
  }
}

}  // namespace
}  // namespace tsquant::testing

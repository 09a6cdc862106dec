#include "numerics/groups.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "numerics/formats.h"
#include "support/support.h"
#include "tsquant/error.h"

namespace tsquant {
namespace {

at::Tensor weight() {
  at::manual_seed(7);
  return at::randn({6, 24}) * at::pow(at::full({24}, 1.3), at::arange(24));
}

QuantizationSpec in_groups(Format format, int64_t size, int64_t axis = -1) {
  QuantizationSpec spec;
  spec.format = format;
  spec.group_size = size;
  spec.group_axis = axis;
  spec.signedness_to_force = true;
  spec.observer = ObserverKind::kMinMax;
  return spec;
}

QParams params_of(const at::Tensor& x, const QuantizationSpec& spec) {
  return choose_qparams(group_range(x, spec.group_size, spec.group_axis), spec, PointKind::kWeight);
}

std::string message_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

TEST(Groups, EachHasTheScaleThatItWouldHaveAlone) {
  const auto w = weight();
  for (const auto formula : {QParamsFormula::kNncf, QParamsFormula::kTorchAo}) {
    for (const auto mode : {QuantizationScheme::kSymmetric, QuantizationScheme::kAsymmetric}) {
      auto spec = in_groups(Format::kInt4, 8);
      spec.formula = formula;
      spec.mode = mode;
      if (formula == QParamsFormula::kTorchAo) spec.dtype = c10::kChar;
      const auto q = params_of(w, spec);
      ASSERT_EQ(q.scale.sizes(), (std::vector<int64_t>{6, 3}));
      ASSERT_EQ(q.zero_point.sizes(), q.scale.sizes());
      const auto codes = quantize(w, q), back = dequantize(codes, q);
      EXPECT_EQ(codes.sizes(), w.sizes());
      auto alone = spec;
      alone.group_size = 0;
      for (int64_t row = 0; row < 6; ++row) {
        for (int64_t group = 0; group < 3; ++group) {
          const auto part = w[row].narrow(0, group * 8, 8);
          const auto p = choose_qparams({part.min().reshape({1}), part.max().reshape({1})}, alone, PointKind::kWeight);
          const auto scale = q.scale[row][group].item<float>();
          // NNCF widens small channels by the largest of the tensor, which is another one here.
          if (formula == QParamsFormula::kTorchAo) EXPECT_EQ(scale, p.scale.item<float>());
          const auto error = (back[row].narrow(0, group * 8, 8) - part).abs().max().item<float>();
          EXPECT_LE(error, scale * (mode == QuantizationScheme::kAsymmetric ? 0.51 : 1.01)) << row << ' ' << group;
        }
      }
    }
  }
}

TEST(Groups, GoAlongAnyAxis) {
  const auto w = weight();
  const auto spec = in_groups(Format::kInt4, 8);
  auto across = in_groups(Format::kInt4, 8, 0);
  const auto q = params_of(w, spec), t = params_of(w.t().contiguous(), across);
  EXPECT_TRUE(at::equal(q.scale.t(), t.scale));
  EXPECT_TRUE(at::equal(quantize(w, q).t(), quantize(w.t().contiguous(), t)));
  EXPECT_TRUE(at::equal(dequantize(quantize(w, q), q).t(), dequantize(quantize(w.t().contiguous(), t), t)));
  across.group_axis = 1;
  const auto cube = w.reshape({2, 3, 24}).transpose(1, 2).contiguous();
  EXPECT_TRUE(at::equal(quantize(cube, params_of(cube, across)), quantize(w, q).reshape({2, 3, 24}).transpose(1, 2)));
}

TEST(Groups, AreSmallerThanChannelsInError) {
  const auto w = weight();
  double last = std::numeric_limits<double>::infinity();
  for (const int64_t size : {24, 8, 4, 2}) {
    const auto q = params_of(w, in_groups(Format::kInt3, size));
    const double error = (dequantize(quantize(w, q), q) - w).norm().item<double>();
    EXPECT_LT(error, last) << size;
    last = error;
  }
}

TEST(Groups, HoldEveryFormat) {
  const auto w = weight();
  for (const FormatRow& row : formats()) {
    const int64_t size = row.info.group_size > 0 ? row.info.group_size : 8;
    const auto x = size > 24 || 24 % size != 0 ? at::randn({4, 2 * size}) : w;
    auto spec = in_groups(row.format, size);
    if (row.info.largest == 0) spec.codebook = {-4, -1.5, -0.5, 0, 0.5, 1.5, 4};
    const auto q = params_of(x, spec);
    const auto back = dequantize(quantize(x, q), q);
    const double error = ((back - x).norm() / x.norm()).item<double>();
    EXPECT_LT(error, row.info.bits == 2 ? 0.5 : 0.3) << row.info.name;
    EXPECT_GT(error, 1e-5) << row.info.name;
  }
}

/// Whether each scale is one that the format can store, and no smaller than the range needs by more than it says.
TEST(Groups, HaveScalesOfTheirFormat) {
  at::manual_seed(9);
  const auto x = at::randn({5, 64}) * at::pow(at::full({5, 1}, 10.0), at::arange(5).reshape({5, 1}) - 2);
  for (const FormatRow& row : formats()) {
    if (row.info.scale == ScaleFormat::kFloat) continue;
    const int64_t size = row.info.group_size > 0 ? row.info.group_size : 8;
    const auto q = params_of(x, in_groups(row.format, size));
    EXPECT_GT(q.scale.min().item<float>(), 0);
    const Groups groups(x, size, -1);
    const auto needed = groups.split(x).abs().amax(2) / row.info.largest;
    if (row.info.scale == ScaleFormat::kPowerOfTwo) {
      EXPECT_TRUE(at::equal(at::exp2(at::round(at::log2(q.scale))), q.scale)) << row.info.name;
      EXPECT_TRUE((needed <= q.scale * 1.000001).logical_and(needed > q.scale / 2.000001).all().item<bool>());
      EXPECT_FALSE(q.tensor_scale.defined());
    } else {
      EXPECT_TRUE(at::equal(decode(encode(q.scale, Format::kF8E4M3), Format::kF8E4M3), q.scale)) << row.info.name;
      EXPECT_EQ(q.scale.max().item<float>(), 448);
      EXPECT_FLOAT_EQ(q.tensor_scale.item<float>(), needed.max().item<float>() / 448);
    }
  }
}

// Large tensors are quantized in parts.
TEST(Groups, OfLargeTensorsAreThoseOfTheirRows) {
  at::manual_seed(8);
  const auto x = at::randn({301, 512});
  for (const int64_t axis : {0, 1}) {
    auto spec = in_groups(Format::kInt4, 64, 1);
    spec.mode = QuantizationScheme::kAsymmetric;
    const auto whole = axis == 1 ? x : x.t();
    spec.group_axis = axis;
    const auto q = params_of(whole, spec);
    const auto codes = quantize(whole, q), back = dequantize(codes, q);
    for (const int64_t row : {0, 127, 128, 300}) {
      auto one = q;
      one.scale = q.scale.select(1 - axis, row).unsqueeze(1 - axis);
      one.zero_point = q.zero_point.select(1 - axis, row).unsqueeze(1 - axis);
      const auto part = whole.narrow(1 - axis, row, 1);
      EXPECT_TRUE(at::equal(quantize(part, one), codes.narrow(1 - axis, row, 1))) << row;
      EXPECT_TRUE(at::equal(dequantize(quantize(part, one), one), back.narrow(1 - axis, row, 1))) << row;
    }
  }
}

TEST(Groups, RefuseARestAndAWrongAxis) {
  const auto w = weight();
  EXPECT_NE(
      message_of([&] { group_range(w, 7, -1); }).find("24 values along axis 1 are no whole number of groups of 7"),
      std::string::npos);
  EXPECT_NE(message_of([&] { group_range(w, 8, 2); }).find("group_axis is 2, but the tensor has 2 dimensions"),
            std::string::npos);
  EXPECT_NE(message_of([&] { group_range(w, 0, 1); }), "");
  const auto q = params_of(w, in_groups(Format::kInt4, 8));
  EXPECT_NE(message_of([&] { quantize(w.narrow(1, 0, 20), q); }).find("20 values"), std::string::npos);
  auto spec = in_groups(Format::kInt4, 8);
  EXPECT_NE(message_of([&] { choose_qparams(group_range(w, 8, 1), spec, PointKind::kActivation); }).find("activation"),
            std::string::npos);
}

}  // namespace
}  // namespace tsquant

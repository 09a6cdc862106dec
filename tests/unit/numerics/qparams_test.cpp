#include "numerics/qparams.h"

#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <functional>
#include <limits>
#include <nlohmann/json.hpp>
#include <vector>

#include "support/support.h"
#include "tsquant/error.h"

namespace tsquant {
namespace {

using nlohmann::json;

json golden(const std::string& name) {
  std::ifstream file(testing::data_file("numerics/" + name));
  return json::parse(file);
}

at::Tensor floats(const json& values) { return torch::tensor(values.get<std::vector<float>>()); }

Range range_of(double min, double max) { return {torch::tensor({min}, at::kFloat), torch::tensor({max}, at::kFloat)}; }

void expect_close(const at::Tensor& actual, const at::Tensor& expected, const std::string& what) {
  ASSERT_EQ(actual.sizes(), expected.sizes()) << what;
  EXPECT_TRUE(at::allclose(actual.to(at::kDouble), expected.to(at::kDouble), 1e-6, 0)) << what << actual << expected;
}

TEST(QParams, MeetsNncfsIntervals) {
  const auto records = golden("nncf_ranges.json");
  ASSERT_GT(records.size(), 500u);
  for (const auto& record : records) {
    QuantizationSpec spec;
    spec.mode = record["asymmetric"] ? QuantizationScheme::kAsymmetric : QuantizationScheme::kSymmetric;
    spec.narrow_range = record["narrow"];
    spec.half_range = record["half_range"];
    // The hardware tables force weights of weighted operators to be signed and narrow.
    if (record["weight"] && record["narrow"]) spec.signedness_to_force = true;
    const auto low = floats(record["low"]).to(at::kDouble), high = floats(record["high"]).to(at::kDouble);
    spec.per_channel = low.numel() > 1;
    const auto kind = record["weight"] ? PointKind::kWeight : PointKind::kActivation;
    const auto q = choose_qparams({floats(record["min"]), floats(record["max"])}, spec, kind);
    const auto width = high - low;
    const auto scale = width / static_cast<double>(q.quant_max - q.quant_min);
    expect_close(q.scale, scale, record["source"]);
    // quantize_functions.py, get_scale_zp_from_input_low_input_high
    const auto zero = at::round((high * q.quant_min - low * q.quant_max) / width).to(at::kLong);
    EXPECT_TRUE(at::equal(q.zero_point, zero)) << record.dump() << q.zero_point << zero;
  }
}

TEST(QParams, MeetsTorchAo) {
  const auto records = golden("torchao_observers.json")["params"];
  ASSERT_GT(records.size(), 200u);
  for (const auto& record : records) {
    QuantizationSpec spec;
    spec.formula = QParamsFormula::kTorchAo;
    spec.mode = record["symmetric"] ? QuantizationScheme::kSymmetric : QuantizationScheme::kAsymmetric;
    spec.dtype = record["dtype"] == "qint8" ? c10::kChar : c10::kByte;
    spec.quant_min = record["quant_min"].get<int64_t>();
    spec.quant_max = record["quant_max"].get<int64_t>();
    spec.eps = record["eps"];
    spec.per_channel = record["per_channel"];
    const auto q = choose_qparams({floats(record["min"]), floats(record["max"])}, spec, PointKind::kActivation);
    expect_close(q.scale, floats(record["scale"]), record.dump());
    EXPECT_TRUE(at::equal(q.zero_point, torch::tensor(record["zero_point"].get<std::vector<int64_t>>())))
        << record.dump() << q.zero_point;
  }
}

QuantizationSpec float_zero_spec(Format format = Format::kInt8) {
  QuantizationSpec spec;
  spec.formula = QParamsFormula::kTorchAo;
  spec.mode = QuantizationScheme::kAsymmetric;
  spec.format = format;
  spec.per_channel = spec.float_zero_point = true;
  return spec;
}

Range rows_of(const at::Tensor& weight) { return {weight.amin(1), weight.amax(1)}; }

/// What LibTorch's tensors of the scheme per_channel_affine_float_qparams hold.
TEST(QParams, FloatZeroPointsKeepTheRange) {
  at::manual_seed(3);
  // The last rows: away from zero, and constant.
  const auto weight = at::cat({at::randn({4, 9}), at::rand({1, 9}) + 7, at::full({1, 9}, -2.5)});
  for (const auto format : {Format::kInt8, Format::kInt4}) {
    const auto q = choose_qparams(rows_of(weight), float_zero_spec(format), PointKind::kWeight);
    ASSERT_TRUE(has_float_zero_points(q));
    EXPECT_FALSE(is_libtorchs(q));
    const int64_t high = format == Format::kInt8 ? 255 : 15;
    EXPECT_EQ(q.quant_max, high);
    expect_close(q.scale.narrow(0, 0, 5), (weight.amax(1) - weight.amin(1)).narrow(0, 0, 5) / high, "scale");
    EXPECT_EQ(q.scale[5].item<float>(), 1);
    EXPECT_EQ(q.zero_point[5].item<float>(), 2.5);
    const auto codes = quantize(weight, q), values = dequantize(codes, q);
    EXPECT_EQ(codes.max().item<int64_t>(), high);
    EXPECT_TRUE(((values - weight).abs() <= q.scale.unsqueeze(1) * 0.5001).all().item<bool>());
    const auto theirs = at::quantize_per_channel(weight, q.scale, q.zero_point, 0, at::kQUInt8);
    EXPECT_TRUE(at::equal(codes, theirs.int_repr().clamp_max(high)));
    EXPECT_TRUE(at::equal(values, (codes.to(at::kFloat) - q.zero_point.unsqueeze(1)) * q.scale.unsqueeze(1)));
    if (format == Format::kInt8) EXPECT_TRUE(at::equal(values, theirs.dequantize()));
  }
}

TEST(QParams, Float16SaturatesAndHasNoScale) {
  QuantizationSpec spec;
  spec.dtype = c10::kHalf;
  const auto weight = torch::tensor({0.1F, -1e6F, 65519.0F, 70000.0F});
  const auto q = choose_qparams({weight.min().reshape({1}), weight.max().reshape({1})}, spec, PointKind::kWeight);
  const auto stored = quantize(weight, q);
  EXPECT_EQ(stored.scalar_type(), at::kHalf);
  EXPECT_TRUE(at::equal(dequantize(stored, q), torch::tensor({0.0999755859375F, -65504.0F, 65504.0F, 65504.0F})));
}

TEST(QParams, StoredTypesAreForWeights) {
  const auto spec = float_zero_spec();
  EXPECT_THROW(check_spec(spec, PointKind::kActivation, ""), Error);
  for (const auto& change : std::vector<std::function<void(QuantizationSpec&)>>{
           [](auto& s) { s.per_channel = false; }, [](auto& s) { s.formula = QParamsFormula::kNncf; },
           [](auto& s) { s.mode = QuantizationScheme::kSymmetric; }, [](auto& s) { s.dtype = c10::kChar; },
           [](auto& s) { s.quant_min = -8, s.quant_max = 7; }, [](auto& s) { s.fixed_scale = 1; }}) {
    auto other = spec;
    change(other);
    EXPECT_THROW(check_spec(other, PointKind::kWeight, ""), Error);
  }
  QuantizationSpec half;
  half.dtype = c10::kHalf;
  check_spec(half, PointKind::kWeight, "");
  EXPECT_THROW(check_spec(half, PointKind::kActivation, ""), Error);
  half.per_channel = true;
  EXPECT_THROW(check_spec(half, PointKind::kWeight, ""), Error);
}

TEST(QParams, SignednessFollowsTheDataUnlessForced) {
  QuantizationSpec spec;
  auto q = choose_qparams(range_of(0, 5.1), spec, PointKind::kActivation);
  EXPECT_EQ(q.dtype, c10::kByte);
  EXPECT_EQ(q.quant_max, 255);
  EXPECT_FLOAT_EQ(q.scale.item<float>(), 5.1f / 255);
  q = choose_qparams(range_of(-0.1, 5.1), spec, PointKind::kActivation);
  EXPECT_EQ(q.dtype, c10::kChar);
  EXPECT_FLOAT_EQ(q.scale.item<float>(), 5.1f / 127);
  spec.signedness_to_force = true;
  EXPECT_EQ(choose_qparams(range_of(0, 5.1), spec, PointKind::kActivation).dtype, c10::kChar);
  spec.signedness_to_force = false;
  q = choose_qparams(range_of(-1, 5.1), spec, PointKind::kActivation);
  EXPECT_EQ(q.dtype, c10::kByte);
  EXPECT_EQ(q.zero_point.item<int64_t>(), 0);
}

TEST(QParams, OptionsChangeTheLevels) {
  QuantizationSpec spec;
  spec.narrow_range = true;
  auto q = choose_qparams(range_of(-1, 1), spec, PointKind::kWeight);
  EXPECT_EQ(q.quant_min, -127);
  spec.format = Format::kInt4;
  q = choose_qparams(range_of(-1, 1), spec, PointKind::kWeight);
  EXPECT_EQ(q.quant_min, -7);
  EXPECT_EQ(q.quant_max, 7);
  EXPECT_FLOAT_EQ(q.scale.item<float>(), 1.0f / 7);
  spec.format = Format::kInt8;
  spec.half_range = true;
  q = choose_qparams(range_of(-1, 1), spec, PointKind::kWeight);
  EXPECT_FLOAT_EQ(q.scale.item<float>(), 1.0f / 63.5f);
  spec = {};
  spec.mode = QuantizationScheme::kAsymmetric;
  q = choose_qparams(range_of(-1, 3), spec, PointKind::kActivation);
  EXPECT_EQ(q.dtype, c10::kByte);
  EXPECT_EQ(q.zero_point.item<int64_t>(), 64);
  spec.narrow_range = true;
  EXPECT_EQ(choose_qparams(range_of(-1, 3), spec, PointKind::kActivation).quant_max, 254);
}

TEST(QParams, SignedSymmetricWeightsHaveZeroAtLevelZero) {
  for (const bool narrow : {true, false}) {
    for (const bool half_range : {true, false}) {
      QuantizationSpec spec;
      spec.signedness_to_force = true;
      spec.per_channel = true;
      spec.narrow_range = narrow;
      spec.half_range = half_range;
      const auto largest = torch::tensor({1.0f, 0.3f, 7.0f});
      const auto q = choose_qparams({-largest, largest}, spec, PointKind::kWeight);
      EXPECT_TRUE(at::equal(q.zero_point, at::zeros({3}, at::kLong))) << narrow << half_range << q.zero_point;
      EXPECT_EQ(q.quant_min, narrow ? -127 : -128);
      const double steps = half_range ? (narrow ? 63.5 : 63) : 127;  // of the largest magnitude
      expect_close(q.scale.to(at::kDouble), largest.to(at::kDouble) / steps, "scale");
    }
  }
}

TEST(QParams, PlainMinMaxObserversStillCoverTheNegativeSide) {
  QuantizationSpec spec;
  spec.observer = ObserverKind::kMinMax;
  const auto q = choose_qparams(range_of(-4, 1), spec, PointKind::kActivation);
  EXPECT_FLOAT_EQ(q.scale.item<float>(), 4.0f / 127);
}

// A quantizer of a user's own that names its codes and no formula gets NNCF's, on these codes.
TEST(QParams, LimitsAreCodesInBothFormulas) {
  QuantizationSpec spec;
  spec.quant_min = -127;
  spec.quant_max = 127;
  QuantizationSpec narrow;
  narrow.narrow_range = true;
  const auto named = choose_qparams(range_of(-3, 3), spec, PointKind::kWeight);
  const auto by_rule = choose_qparams(range_of(-3, 3), narrow, PointKind::kWeight);
  EXPECT_FLOAT_EQ(named.scale.item<float>(), by_rule.scale.item<float>());
  EXPECT_EQ(named.zero_point.item<int64_t>(), 0);
  EXPECT_EQ(named.quant_min, -127);
  EXPECT_EQ(named.dtype, c10::kChar);

  spec.quant_min = -128;
  EXPECT_FLOAT_EQ(choose_qparams(range_of(-3, 3), spec, PointKind::kWeight).scale.item<float>(), 3.0f / 127);
  spec.formula = QParamsFormula::kTorchAo;
  EXPECT_FLOAT_EQ(choose_qparams(range_of(-3, 3), spec, PointKind::kWeight).scale.item<float>(), 3.0f / 127.5f);
  spec.formula = QParamsFormula::kNncf;
  EXPECT_FLOAT_EQ(choose_qparams(range_of(0, 1e-9), spec, PointKind::kWeight).scale.item<float>(), 8e-5f / 127)
      << "the smallest range of NNCF, not the smallest scale of torch.ao";
}

TEST(QParams, UnsignedLimitsOfSignedDataHaveZeroInTheMiddle) {
  QuantizationSpec spec;
  spec.quant_min = 0;
  spec.quant_max = 255;
  auto q = choose_qparams(range_of(-3, 3), spec, PointKind::kActivation);
  EXPECT_EQ(q.dtype, c10::kByte);
  EXPECT_EQ(q.zero_point.item<int64_t>(), 128);
  EXPECT_FLOAT_EQ(q.scale.item<float>(), 3.0f / 127);
  q = choose_qparams(range_of(0, 3), spec, PointKind::kActivation);
  EXPECT_EQ(q.zero_point.item<int64_t>(), 0);
  EXPECT_FLOAT_EQ(q.scale.item<float>(), 3.0f / 255);
  spec.mode = QuantizationScheme::kAsymmetric;
  spec.quant_max = 100;
  q = choose_qparams(range_of(-1, 3), spec, PointKind::kActivation);
  EXPECT_EQ(q.zero_point.item<int64_t>(), 25);
  EXPECT_EQ(q.quant_max, 100);
}

/// With the formula of torch.ao the middle of quint8 is 128, and 127 when its limits are given.
TEST(QParams, TheMiddleOfTorchAosUnsignedCodes) {
  QuantizationSpec spec;
  spec.formula = QParamsFormula::kTorchAo, spec.dtype = c10::kByte;
  EXPECT_EQ(choose_qparams(range_of(-3, 3), spec, PointKind::kActivation).zero_point.item<int64_t>(), 128);
  spec.quant_min = 0, spec.quant_max = 255;
  EXPECT_EQ(choose_qparams(range_of(-3, 3), spec, PointKind::kActivation).zero_point.item<int64_t>(), 127);
}

TEST(QParams, TheTypeOfTheCodesIsObeyed) {
  QuantizationSpec spec;
  spec.mode = QuantizationScheme::kAsymmetric;
  spec.dtype = c10::kChar;
  auto q = choose_qparams(range_of(-1, 3), spec, PointKind::kActivation);
  EXPECT_EQ(q.dtype, c10::kChar);
  EXPECT_EQ(q.zero_point.item<int64_t>(), -64);
  spec.format = Format::kInt4;
  q = choose_qparams(range_of(-1, 3), spec, PointKind::kActivation);
  EXPECT_EQ(q.quant_min, -8);
  EXPECT_EQ(q.quant_max, 7);
  EXPECT_EQ(q.zero_point.item<int64_t>(), -4);
  spec.formula = QParamsFormula::kTorchAo;
  spec.dtype = c10::kByte;
  q = choose_qparams(range_of(-1, 3), spec, PointKind::kActivation);
  EXPECT_EQ(q.quant_max, 15) << "without limits all codes of the format";
  EXPECT_FLOAT_EQ(q.scale.item<float>(), 4.0f / 15);
}

TEST(QParams, FixedParametersNeedNoRange) {
  QuantizationSpec spec;
  spec.fixed_scale = 2.0 / 256;
  spec.fixed_zero_point = 128;
  spec.dtype = c10::kByte;
  spec.quant_min = 0;
  spec.quant_max = 255;
  const auto q = choose_qparams({}, spec, PointKind::kActivation);
  EXPECT_EQ(q.scale.item<float>(), 2.0f / 256);
  EXPECT_EQ(q.zero_point.item<int64_t>(), 128);
  EXPECT_EQ(q.dtype, c10::kByte);
  spec.fixed_zero_point = 300;
  EXPECT_THROW(choose_qparams({}, spec, PointKind::kActivation), Error);
}

TEST(QParams, RefusesNonsense) {
  EXPECT_THROW(integer_format(9), Error);
  QuantizationSpec spec;
  spec.half_range = true;
  EXPECT_THROW(choose_qparams(range_of(0, 1), spec, PointKind::kActivation), Error);
  spec = {};
  spec.quant_min = 7;
  spec.quant_max = -8;
  EXPECT_THROW(choose_qparams(range_of(0, 1), spec, PointKind::kActivation), Error);
  spec = {};
  spec.format = Format::kInt4;
  spec.quant_min = -128;
  spec.quant_max = 127;
  EXPECT_THROW(choose_qparams(range_of(0, 1), spec, PointKind::kActivation), Error);
  spec = {};
  spec.quant_min = -128;
  spec.quant_max = 0;
  EXPECT_THROW(choose_qparams(range_of(-1, 1), spec, PointKind::kActivation), Error) << "no symmetric code above zero";
  spec = {};
  spec.dtype = c10::kInt;
  EXPECT_THROW(choose_qparams(range_of(0, 1), spec, PointKind::kActivation), Error);
  EXPECT_THROW(choose_qparams(range_of(1, 0), {}, PointKind::kActivation), Error);
  EXPECT_THROW(choose_qparams(range_of(0, NAN), {}, PointKind::kActivation), Error);
  EXPECT_THROW(choose_qparams(range_of(-INFINITY, 1), {}, PointKind::kActivation), Error);
}

TEST(QParams, ScaleIsUsableForExtremeRanges) {
  for (auto mode : {QuantizationScheme::kSymmetric, QuantizationScheme::kAsymmetric}) {
    for (bool torch_ao : {false, true}) {
      QuantizationSpec spec;
      spec.mode = mode;
      if (torch_ao) {
        spec.formula = QParamsFormula::kTorchAo;
        spec.quant_min = -128;
        spec.quant_max = 127;
        spec.eps = 0;
      }
      const float big = 3e38f, tiny = 1e-42f;
      for (auto [low, high] : std::vector<std::pair<float, float>>{
               {-big, big}, {0, big}, {-big, 0}, {-tiny, tiny}, {0, 0}, {5, 5}, {-5, -5}, {0, tiny}}) {
        const auto q = choose_qparams(range_of(low, high), spec, PointKind::kActivation);
        const float scale = q.scale.item<float>();
        EXPECT_TRUE(std::isfinite(scale) && scale > 0 && std::isfinite(1 / scale)) << low << ' ' << high;
        const auto zero = dequantize(quantize(torch::zeros({1}), q), q);
        EXPECT_EQ(zero.item<float>(), 0) << low << ' ' << high;
      }
    }
  }
}

TEST(Quantize, EqualsLibTorchBitForBit) {
  torch::manual_seed(5);
  const auto x = torch::randn({7, 33}) * 3;
  QuantizationSpec spec;
  spec.mode = QuantizationScheme::kAsymmetric;
  const auto q = choose_qparams({x.min().reshape({1}), x.max().reshape({1})}, spec, PointKind::kActivation);
  const auto expected = at::quantize_per_tensor(x, q.scale.item<double>(), q.zero_point.item<int64_t>(), c10::kQUInt8);
  EXPECT_TRUE(at::equal(quantize(x, q), expected.int_repr()));
  EXPECT_TRUE(at::equal(dequantize(quantize(x, q), q), expected.dequantize()));

  spec = {};
  spec.per_channel = true;
  spec.ch_axis = 1;
  const auto c = choose_qparams({at::amin(x, {0}), at::amax(x.abs(), {0})}, spec, PointKind::kWeight);
  const auto by_channel = at::quantize_per_channel(x, c.scale, c.zero_point, 1, c10::kQInt8);
  EXPECT_TRUE(at::equal(quantize(x, c), by_channel.int_repr()));
  EXPECT_TRUE(at::equal(dequantize(quantize(x, c), c), by_channel.dequantize()));
}

TEST(Quantize, ClampsToNarrowLevels) {
  QuantizationSpec spec;
  spec.narrow_range = true;
  spec.format = Format::kInt4;
  const auto q = choose_qparams(range_of(-1, 1), spec, PointKind::kWeight);
  const auto codes = quantize(torch::tensor({-9.0f, -1.0f, 0.0f, 1.0f, 9.0f}), q);
  EXPECT_TRUE(at::equal(codes, torch::tensor({-7, -7, 0, 7, 7}, at::kChar)));
}

}  // namespace
}  // namespace tsquant

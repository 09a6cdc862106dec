#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "numerics/qparams.h"
#include "tsquant/error.h"
#include "tsquant/observer_module.h"

namespace tsquant {
namespace {

/// The whole text of the refusal, or "" when there is none.
template <typename Call>
std::string refusal(const Call& call) {
  try {
    call();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument) << error.what();
    return error.what();
  }
  return "";
}

ObserverConfig config_of(ObserverType type, c10::QScheme scheme = c10::kPerTensorAffine) {
  ObserverConfig config;
  config.type = type, config.qscheme = scheme;
  return config;
}

#define EXPECT_REFUSED(config, text)                                                      \
  EXPECT_NE(refusal([&] { make_observer_module(config); }).find(text), std::string::npos) \
      << refusal([&] { make_observer_module(config); })

TEST(ObserverConfig, ASchemeOfTheOtherFamilyIsRefused) {
  for (const auto type : {ObserverType::kMinMax, ObserverType::kMovingAverageMinMax, ObserverType::kHistogram}) {
    EXPECT_REFUSED(config_of(type, c10::kPerChannelAffine), "per_channel_affine does not fit");
  }
  for (const auto type : {ObserverType::kPerChannelMinMax, ObserverType::kMovingAveragePerChannelMinMax}) {
    EXPECT_REFUSED(config_of(type, c10::kPerTensorSymmetric), "per_tensor_symmetric does not fit");
  }
  EXPECT_REFUSED(config_of(ObserverType::kFixedQParams, c10::kPerChannelAffine), "for a whole tensor");
}

TEST(ObserverConfig, CodeLimitsThatTorchAoRefusesAreRefused) {
  const auto limits = [](c10::optional<int64_t> low, c10::optional<int64_t> high, c10::ScalarType dtype) {
    auto config = config_of(ObserverType::kMinMax);
    config.quant_min = low, config.quant_max = high, config.dtype = dtype;
    return config;
  };
  EXPECT_REFUSED(limits(0, c10::nullopt, c10::kQUInt8), "only one of");
  EXPECT_REFUSED(limits(1, 100, c10::kQUInt8), "do not enclose zero");
  EXPECT_REFUSED(limits(-100, -1, c10::kQInt8), "do not enclose zero");
  EXPECT_REFUSED(limits(0, 0, c10::kQUInt8), "do not enclose zero");
  EXPECT_REFUSED(limits(-128, 128, c10::kQInt8), "outside of QInt8");
  EXPECT_REFUSED(limits(-1, 10, c10::kQUInt8), "outside of QUInt8");
  EXPECT_REFUSED(limits(0, 16, c10::kQUInt4x2), "outside of QUInt4x2");
  EXPECT_EQ(refusal([&] { make_observer_module(limits(-128, 127, c10::kQInt8)); }), "");
  auto dtype = config_of(ObserverType::kMinMax);
  dtype.dtype = c10::kByte;
  EXPECT_REFUSED(dtype, "codes of type Byte");
}

TEST(ObserverConfig, AReducedRangeOfSymmetricQuint8IsRefused) {
  auto config = config_of(ObserverType::kMinMax, c10::kPerTensorSymmetric);
  config.reduce_range = true;
  EXPECT_REFUSED(config, "symmetric quint8");
  config.type = ObserverType::kMovingAveragePerChannelMinMax, config.qscheme = c10::kPerChannelSymmetric;
  EXPECT_REFUSED(config, "symmetric quint8");
  config.dtype = c10::kQInt8;
  EXPECT_EQ(refusal([&] { make_observer_module(config); }), "");
}

TEST(ObserverConfig, NumbersThatMakeNoSenseAreRefused) {
  auto config = config_of(ObserverType::kMinMax);
  for (const double eps : {-1.0, double(NAN), double(INFINITY)}) {
    config.eps = eps;
    EXPECT_REFUSED(config, "eps is");
  }
  config = config_of(ObserverType::kMovingAverageMinMax);
  for (const double constant : {0.0, 1.5, double(NAN)}) {
    config.averaging_constant = constant;
    EXPECT_REFUSED(config, "averaging_constant is");
  }
  config = config_of(ObserverType::kHistogram);
  config.bins = 1;
  EXPECT_REFUSED(config, "bins is 1");
  config = config_of(ObserverType::kFixedQParams);
  config.scale = 0;
  EXPECT_REFUSED(config, "scale is 0");
  config.scale = 1, config.zero_point = 256;
  EXPECT_REFUSED(config, "zero_point 256");
}

TEST(ObserverConfig, FakeQuantizesNeedAnObserverThatFits) {
  const auto around = [](FakeQuantizeType fake, ObserverType type) {
    auto config = config_of(type);
    config.fake_quantize = fake;
    return config;
  };
  using Fake = FakeQuantizeType;
  EXPECT_REFUSED(around(Fake::kFusedMovingAvgObs, ObserverType::kMinMax), "works with a moving average");
  EXPECT_REFUSED(around(Fake::kFixedQParams, ObserverType::kMinMax), "needs them");
  EXPECT_REFUSED(around(Fake::kFakeQuantize, ObserverType::kHistogram), "at every step");
  EXPECT_REFUSED(around(Fake::kFakeQuantize, ObserverType::kPlaceholder), "gives no scale");
  EXPECT_REFUSED(around(Fake::kLearnable, ObserverType::kSampleExtrema), "gives no scale");
  auto config = around(Fake::kLearnable, ObserverType::kPerChannelMinMax);
  config.qscheme = c10::kPerChannelAffineFloatQParams;
  EXPECT_REFUSED(config, "integer zero points");
}

TEST(ObserverConfig, ParametersOfObserversWithoutStatisticsAreRefused) {
  for (const auto type : {ObserverType::kPlaceholder, ObserverType::kRecording, ObserverType::kNoop,
                          ObserverType::kReuseInput, ObserverType::kSampleExtrema}) {
    const auto module = make_observer_module(config_of(type));
    EXPECT_NE(refusal([&] { calculate_qparams(module); }).find("has no scale"), std::string::npos);
  }
}

TEST(ObserverConfig, SpecsAndConfigsAreTheSame) {
  for (const auto mode :
       {c10::kPerTensorAffine, c10::kPerTensorSymmetric, c10::kPerChannelAffine, c10::kPerChannelSymmetric}) {
    const bool per_channel = mode == c10::kPerChannelAffine || mode == c10::kPerChannelSymmetric;
    for (const auto type : {ObserverType::kMinMax, ObserverType::kMovingAverageMinMax, ObserverType::kHistogram,
                            ObserverType::kPerChannelMinMax, ObserverType::kMovingAveragePerChannelMinMax}) {
      const bool wants_channels =
          type == ObserverType::kPerChannelMinMax || type == ObserverType::kMovingAveragePerChannelMinMax;
      if (wants_channels != per_channel) continue;
      for (const auto dtype : {c10::kQInt8, c10::kQUInt8}) {
        auto config = config_of(type, mode);
        config.dtype = dtype, config.eps = 0.25, config.averaging_constant = 0.5;
        config.ch_axis = per_channel ? 2 : 0, config.histogram_rule = HistogramRule::kTorch1_13;
        for (const auto fake : {FakeQuantizeType::kNone, FakeQuantizeType::kFakeQuantize}) {
          config.fake_quantize = type == ObserverType::kHistogram ? FakeQuantizeType::kNone : fake;
          config.quant_min = fake == FakeQuantizeType::kNone ? c10::nullopt : c10::make_optional<int64_t>(0);
          config.quant_max = fake == FakeQuantizeType::kNone ? c10::nullopt : c10::make_optional<int64_t>(100);
          const auto spec = spec_of(config);
          EXPECT_EQ(spec.formula, QParamsFormula::kTorchAo);
          EXPECT_TRUE(observer_config_of(spec, PointKind::kWeight) == config);
          EXPECT_TRUE(observer_config_of(spec, PointKind::kActivation) == config);
        }
      }
    }
  }
}

TEST(ObserverConfig, ReducedAndFourBitCodesBecomeLimits) {
  auto config = config_of(ObserverType::kMinMax);
  config.dtype = c10::kQInt8, config.reduce_range = true;
  auto spec = spec_of(config);
  EXPECT_EQ(spec.quant_min, -64);
  EXPECT_EQ(spec.quant_max, 63);
  config.reduce_range = false, config.dtype = c10::kQUInt4x2;
  spec = spec_of(config);
  EXPECT_EQ(spec.format, Format::kInt4);
  const auto again = observer_config_of(spec, PointKind::kWeight);
  EXPECT_EQ(again.quant_min, 0);
  EXPECT_EQ(again.quant_max, 15);
}

TEST(ObserverConfig, FloatZeroPointsAndFloat16) {
  auto config = config_of(ObserverType::kPerChannelMinMax, c10::kPerChannelAffineFloatQParams);
  config.dtype = c10::kQUInt8;
  auto spec = spec_of(config);
  EXPECT_TRUE(spec.float_zero_point);
  EXPECT_TRUE(observer_config_of(spec, PointKind::kWeight) == config);
  EXPECT_THROW(observer_config_of(spec, PointKind::kActivation), Error);
  config.dtype = c10::kQUInt4x2;
  spec = spec_of(config);
  EXPECT_EQ(spec.format, Format::kInt4);
  EXPECT_EQ(observer_config_of(spec, PointKind::kWeight).quant_max, 15);
  config = config_of(ObserverType::kPlaceholder);
  config.dtype = c10::kHalf;
  spec = spec_of(config);
  EXPECT_EQ(spec.dtype, c10::kHalf);
  EXPECT_TRUE(observer_config_of(spec, PointKind::kWeight) == config);
}

TEST(ObserverConfig, FixedAndDynamicSpecs) {
  auto config = config_of(ObserverType::kFixedQParams);
  config.scale = 1.0 / 256, config.fake_quantize = FakeQuantizeType::kFixedQParams;
  const auto spec = spec_of(config);
  EXPECT_EQ(spec.fixed_scale, 1.0 / 256);
  EXPECT_EQ(spec.fixed_zero_point, 0);
  EXPECT_TRUE(observer_config_of(spec, PointKind::kActivation) == config);
  auto trained = spec;
  trained.fake_quantize = FakeQuantizeType::kFusedMovingAvgObs;
  EXPECT_TRUE(observer_config_of(trained, PointKind::kActivation) == config);
  config = config_of(ObserverType::kPlaceholder);
  config.is_dynamic = true;
  EXPECT_TRUE(spec_of(config).is_dynamic);
  EXPECT_TRUE(observer_config_of(spec_of(config), PointKind::kActivation) == config);
}

/// NNCF's specs: what their modules observe by default.
TEST(ObserverConfig, DefaultsOfNncfsSpecs) {
  QuantizationSpec spec;
  const auto type = [&](PointKind kind) { return observer_config_of(spec, kind).type; };
  EXPECT_EQ(type(PointKind::kActivation), ObserverType::kSampleExtrema);
  EXPECT_EQ(type(PointKind::kWeight), ObserverType::kMinMax);
  spec.fake_quantize = FakeQuantizeType::kFakeQuantize;
  EXPECT_EQ(type(PointKind::kActivation), ObserverType::kMovingAverageMinMax);
  EXPECT_EQ(type(PointKind::kWeight), ObserverType::kMinMax);
  spec.fake_quantize = FakeQuantizeType::kFusedMovingAvgObs;
  EXPECT_EQ(type(PointKind::kWeight), ObserverType::kMovingAverageMinMax);
  spec.per_channel = true;
  EXPECT_EQ(type(PointKind::kWeight), ObserverType::kMovingAveragePerChannelMinMax);
  spec.fake_quantize = FakeQuantizeType::kNone;
  EXPECT_EQ(type(PointKind::kWeight), ObserverType::kPerChannelMinMax);
  EXPECT_EQ(type(PointKind::kActivation), ObserverType::kPerChannelMinMax);
}

/// The codes that fake quantizes train with are those that the spec's formula uses.
TEST(ObserverConfig, CodesAreThoseOfTheFormulas) {
  const Range range{at::full({1}, -1.0F), at::full({1}, 2.0F)};
  for (const auto formula : {QParamsFormula::kNncf, QParamsFormula::kTorchAo}) {
    for (const auto mode : {QuantizationScheme::kSymmetric, QuantizationScheme::kAsymmetric}) {
      for (const auto format : {Format::kInt8, Format::kInt4}) {
        for (const bool narrow : {false, true}) {
          QuantizationSpec spec;
          spec.formula = formula, spec.mode = mode, spec.format = format, spec.narrow_range = narrow;
          const auto q = choose_qparams(range, spec, PointKind::kWeight);
          const auto module = make_observer_module(observer_config_of(spec, PointKind::kWeight));
          EXPECT_EQ(module.attr("quant_min").toInt(), q.quant_min) << narrow << static_cast<int>(format);
          EXPECT_EQ(module.attr("quant_max").toInt(), q.quant_max) << narrow << static_cast<int>(format);
          EXPECT_EQ(observer_config_of(spec, PointKind::kWeight).dtype,
                    q.dtype == c10::kChar ? c10::kQInt8 : c10::kQUInt8);
        }
      }
    }
  }
}

TEST(ObserverConfig, WhatASpecCannotSayIsRefused) {
  auto config = config_of(ObserverType::kHistogram);
  config.bins = 256;
  EXPECT_NE(refusal([&] { spec_of(config); }).find("256 bins"), std::string::npos);
  config = config_of(ObserverType::kMinMax);
  config.dtype = c10::kQInt32;
  EXPECT_NE(refusal([&] { spec_of(config); }).find("QInt32"), std::string::npos);
  config.dtype = c10::kQUInt8, config.fake_quantize = FakeQuantizeType::kLearnable, config.use_grad_scaling = true;
  EXPECT_NE(refusal([&] { spec_of(config); }).find("use_grad_scaling"), std::string::npos);
  for (const auto type :
       {ObserverType::kPlaceholder, ObserverType::kRecording, ObserverType::kNoop, ObserverType::kReuseInput}) {
    EXPECT_NE(refusal([&] { spec_of(config_of(type)); }).find("has no parameters"), std::string::npos);
  }
}

TEST(ObserverConfig, WhatAnObserverCannotDoIsRefused) {
  QuantizationSpec spec;
  spec.format = Format::kF8E4M3;
  EXPECT_NE(refusal([&] { observer_config_of(spec, PointKind::kWeight); }).find("integers"), std::string::npos);
  spec = {};
  spec.group_size = 16;
  EXPECT_NE(refusal([&] { observer_config_of(spec, PointKind::kWeight); }).find("integers"), std::string::npos);
  spec = {};
  spec.observer = ObserverKind::kMinMax, spec.fake_quantize = FakeQuantizeType::kFusedMovingAvgObs;
  EXPECT_NE(refusal([&] { observer_config_of(spec, PointKind::kWeight); }).find("moving average"), std::string::npos);
}

}  // namespace
}  // namespace tsquant

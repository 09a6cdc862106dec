#include "tsquant/fx/qconfig.h"

#include <gtest/gtest.h>

#include <cmath>

#include "fx_golden.h"

namespace tsquant::testing {
namespace {

using Json = nlohmann::json;

const std::map<ObserverType, std::string>& observer_classes() {
  static const std::map<ObserverType, std::string> classes{
      {ObserverType::kMinMax, "MinMaxObserver"},
      {ObserverType::kPerChannelMinMax, "PerChannelMinMaxObserver"},
      {ObserverType::kMovingAverageMinMax, "MovingAverageMinMaxObserver"},
      {ObserverType::kMovingAveragePerChannelMinMax, "MovingAveragePerChannelMinMaxObserver"},
      {ObserverType::kHistogram, "HistogramObserver"}};
  return classes;
}

const std::map<FakeQuantizeType, std::string>& fake_quantize_classes() {
  static const std::map<FakeQuantizeType, std::string> classes{
      {FakeQuantizeType::kFakeQuantize, "FakeQuantize"},
      {FakeQuantizeType::kFusedMovingAvgObs, "FusedMovingAvgObsFakeQuantize"}};
  return classes;
}

/// Codes that an observer of 8 bits uses: half of them with reduce_range.
std::pair<int64_t, int64_t> codes(const ObserverConfig& config) {
  const bool is_signed = config.dtype == c10::kQInt8;
  const int64_t low = config.quant_min.value_or(is_signed ? -128 : 0);
  const int64_t high = config.quant_max.value_or(is_signed ? 127 : 255);
  return config.reduce_range ? std::pair(low / 2, high / 2) : std::pair(low, high);
}

void expect_equal(const ObserverConfig& config, const Json& golden, const std::string& what) {
  EXPECT_EQ(observer_classes().at(config.type), golden["inner"]) << what;
  const bool is_plain = config.fake_quantize == FakeQuantizeType::kNone;
  EXPECT_EQ(is_plain ? observer_classes().at(config.type) : fake_quantize_classes().at(config.fake_quantize),
            golden["class"])
      << what;
  EXPECT_EQ(config.dtype == c10::kQInt8 ? "qint8" : "quint8", golden["dtype"]) << what;
  const std::map<c10::QScheme, std::string> schemes{{c10::kPerTensorAffine, "per_tensor_affine"},
                                                    {c10::kPerTensorSymmetric, "per_tensor_symmetric"},
                                                    {c10::kPerChannelSymmetric, "per_channel_symmetric"}};
  EXPECT_EQ(schemes.at(config.qscheme), golden["qscheme"]) << what;
  EXPECT_EQ(codes(config), std::pair(golden["quant_min"].get<int64_t>(), golden["quant_max"].get<int64_t>())) << what;
  EXPECT_EQ(config.reduce_range, golden["reduce_range"].get<bool>()) << what;
  EXPECT_EQ(config.eps, golden["eps"].get<double>()) << what;
  if (golden.contains("averaging_constant")) {
    EXPECT_EQ(config.averaging_constant, golden["averaging_constant"].get<double>()) << what;
  }
  if (golden.contains("ch_axis")) EXPECT_EQ(config.ch_axis, golden["ch_axis"].get<int64_t>()) << what;
  if (golden.contains("bins")) EXPECT_EQ(config.bins, golden["bins"].get<int64_t>()) << what;
}

void expect_equal(const fx::QConfig& qconfig, const std::string& golden) {
  expect_equal(qconfig.activation, fx_golden()["qconfigs"][golden]["activation"], golden + " activation");
  expect_equal(qconfig.weight, fx_golden()["qconfigs"][golden]["weight"], golden + " weight");
}

TEST(FxQConfig, defaults_of_backends_are_torch_ao_s) {
  for (const std::string backend : {"x86", "fbgemm", "onednn", "qnnpack"}) {
    expect_equal(fx::get_default_qconfig(backend), backend);
    expect_equal(fx::get_default_qat_qconfig(backend, 0), backend + "_qat_v0");
    expect_equal(fx::get_default_qat_qconfig(backend), backend + "_qat_v1");
  }
}

// What torch.ao gives for backends that it does not know are its general defaults.
TEST(FxQConfig, general_defaults_are_torch_ao_s) {
  expect_equal(fx::default_qconfig(), "anything_else");
  expect_equal(fx::default_qat_qconfig(), "anything_else_qat_v0");
  expect_equal(fx::default_qat_qconfig_v2(), "anything_else_qat_v1");
}

TEST(FxQConfig, unknown_backends_and_versions_are_refused) {
  const Error backend = thrown_by([] { fx::get_default_qconfig("fbgem"); });
  EXPECT_EQ(backend.message(), "\"fbgem\" is no backend with a default qconfig");
  EXPECT_EQ(backend.advice(), "use one of x86, fbgemm, onednn, qnnpack");
  EXPECT_EQ(thrown_by([] { fx::get_default_qconfig("x86", 1); }).message(), "version 1 does not exist");
  EXPECT_EQ(thrown_by([] { fx::get_default_qat_qconfig("x86", 2); }).advice(), "use 0 or 1");
}

std::vector<fx::QConfig> ready_made() {
  return {fx::default_qconfig(),
          fx::default_per_channel_qconfig(),
          fx::default_debug_qconfig(),
          fx::default_dynamic_qconfig(),
          fx::per_channel_dynamic_qconfig(),
          fx::float16_dynamic_qconfig(),
          fx::float16_static_qconfig(),
          fx::default_reuse_input_qconfig(),
          fx::float_qparams_weight_only_qconfig(),
          fx::float_qparams_weight_only_qconfig_4bit(),
          fx::default_symmetric_qnnpack_qconfig(),
          fx::default_per_channel_symmetric_qnnpack_qconfig(),
          fx::default_symmetric_qnnpack_qat_qconfig(),
          fx::default_per_channel_symmetric_qnnpack_qat_qconfig(),
          fx::default_qat_qconfig(),
          fx::default_qat_qconfig_v2(),
          fx::default_dynamic_qat_qconfig(),
          fx::default_weight_only_qconfig(),
          fx::default_activation_only_qconfig(),
          fx::default_embedding_qat_qconfig(),
          fx::default_embedding_qat_qconfig_4bit()};
}

TEST(FxQConfig, json_keeps_everything_that_tells_them_apart) {
  const auto qconfigs = ready_made();
  for (size_t i = 0; i < qconfigs.size(); ++i) {
    EXPECT_EQ(fx::qconfig_from_json(fx::to_json(qconfigs[i])), qconfigs[i]) << i;
    for (size_t k = 0; k < i; ++k) EXPECT_NE(qconfigs[i], qconfigs[k]) << i << " and " << k;
  }
}

TEST(FxQConfig, json_names_what_differs_from_the_defaults) {
  const auto json = Json::parse(fx::to_json(fx::default_symmetric_qnnpack_qconfig()));
  EXPECT_EQ(json["weight"], Json({{"observer", "MinMaxObserver"},
                                  {"dtype", "qint8"},
                                  {"qscheme", "per_tensor_symmetric"},
                                  {"quant_min", -127},
                                  {"quant_max", 127},
                                  {"eps", std::exp2(-12)}}));
}

TEST(FxQConfig, wrong_json_is_refused_with_the_key_and_what_comes_closest) {
  const auto refused = [](const std::string& activation) {
    return thrown_by([&] {
      fx::qconfig_from_json(R"({"activation": )" + activation + R"(, "weight": {"observer": "MinMaxObserver"}})");
    });
  };
  const Error key = refused(R"({"observer": "MinMaxObserver", "quantmin": 0})");
  EXPECT_EQ(key.place(), "qconfig.activation.quantmin");
  EXPECT_NE(key.advice().find("quant_min"), std::string::npos);
  const Error word = refused(R"({"observer": "HistogrammObserver"})");
  EXPECT_EQ(word.message(), "\"HistogrammObserver\" is not known");
  EXPECT_EQ(word.advice().rfind("closest: HistogramObserver", 0), 0u);
  EXPECT_EQ(refused(R"({"observer": "MinMaxObserver", "eps": "small"})").message(),
            "\"small\" stands where a number belongs");
  EXPECT_EQ(refused(R"({"dtype": "quint8"})").message(), "\"observer\" is missing");
  EXPECT_EQ(thrown_by([] { fx::qconfig_from_json("[]"); }).message(), "[] stands where an object belongs");
}

}  // namespace
}  // namespace tsquant::testing

// Observer modules against torch.ao 1.13.1: all goldens where they are present, a part of them everywhere
// (scripts/pack_observer_goldens.py).
#include <gtest/gtest.h>

#include <cmath>
#include <set>

#include "observers/modules/statistics.h"
#include "tsquant/error.h"
#include "unit/observers/module_golden.h"

namespace tsquant {
namespace {

using nlohmann::json;
using testing::TorchAoGoldens;

const std::map<std::string, c10::ScalarType> kTypes{
    {"quint8", c10::kQUInt8}, {"qint8", c10::kQInt8}, {"quint4x2", c10::kQUInt4x2}};
const std::map<std::string, c10::QScheme> kSchemes{
    {"per_tensor_affine", c10::kPerTensorAffine},
    {"per_tensor_symmetric", c10::kPerTensorSymmetric},
    {"per_channel_affine", c10::kPerChannelAffine},
    {"per_channel_symmetric", c10::kPerChannelSymmetric},
    {"per_channel_affine_float_qparams", c10::kPerChannelAffineFloatQParams}};
const std::map<std::string, ObserverType> kObservers{
    {"MinMaxObserver", ObserverType::kMinMax},
    {"PerChannelMinMaxObserver", ObserverType::kPerChannelMinMax},
    {"MovingAverageMinMaxObserver", ObserverType::kMovingAverageMinMax},
    {"MovingAveragePerChannelMinMaxObserver", ObserverType::kMovingAveragePerChannelMinMax},
    {"HistogramObserver", ObserverType::kHistogram},
    {"emulated_HistogramObserver_2.3_midpoint", ObserverType::kHistogram}};

ObserverConfig config_of(const json& record) {
  const json& args = record["args"];
  ObserverConfig config;
  config.type = kObservers.at(record["observer"]);
  config.dtype = kTypes.at(args["dtype"]);
  config.qscheme = kSchemes.at(args["qscheme"]);
  config.reduce_range = args.value("reduce_range", false);
  if (args.contains("quant_min")) config.quant_min = args["quant_min"].get<int64_t>();
  if (args.contains("quant_max")) config.quant_max = args["quant_max"].get<int64_t>();
  config.eps = args.value("eps", config.eps);
  config.averaging_constant = args.value("averaging_constant", config.averaging_constant);
  config.ch_axis = args.value("ch_axis", config.ch_axis);
  config.bins = args.value("bins", config.bins);
  config.histogram_rule =
      record["observer"] == "HistogramObserver" ? HistogramRule::kTorch1_13 : HistogramRule::kTorch2;
  return config;
}

std::string name_of(const json& record) {
  return record["observer"].get<std::string>() + " " + record["args"].dump() + " " + record.value("stream", "");
}

void expect_parameters(const ObservedQParams& q, const json& scale, const json& zero_point, const std::string& what) {
  const auto expected = testing::numbers(scale), zero = testing::numbers(zero_point);
  ASSERT_EQ(q.scale.sizes(), expected.sizes()) << what;
  const auto difference = (q.scale.to(at::kDouble) - expected).abs() / expected.abs();
  EXPECT_LE(difference.max().item<double>(), 1e-6) << what << q.scale << expected;
  if (q.zero_point.is_floating_point()) {
    EXPECT_LE((q.zero_point.to(at::kDouble) - zero).abs().max().item<double>(),
              1e-6 * (1 + zero.abs().max().item<double>()))
        << what;
  } else {
    EXPECT_TRUE(at::equal(q.zero_point, zero.to(at::kLong))) << what << q.zero_point << zero;
  }
}

struct Counts {
  int64_t min_max = 0, histograms = 0, newer_histograms = 0, refused = 0;
  std::set<std::string> searched;  ///< histograms whose range was compared
};

/// 1.13 to the last bit. The emulation of 2.3 works in float32 and puts some values into the neighbouring bin, and
/// constants into another one; its range differs in the last digit only.
void check_histogram(const TorchAoGoldens& goldens, const json& record, const torch::jit::Module& module,
                     const ObserverConfig& config, const std::string& what, Counts& done) {
  const auto counts = module.attr("histogram").toTensor().to(at::kFloat);
  const auto expected = goldens.array(record["histogram_key"]).to(at::kFloat);
  if (config.histogram_rule == HistogramRule::kTorch1_13) EXPECT_TRUE(at::equal(counts, expected)) << what;
  EXPECT_NEAR(counts.sum().item<double>(), expected.sum().item<double>(), 1e-3) << what;
  // The codes have no influence on the range.
  if (!done.searched.insert(record["histogram_key"]).second) return;
  const auto range = observed_range(module, config);
  const auto low = record["search_min"].get<float>(), high = record["search_max"].get<float>();
  const float digits = config.histogram_rule == HistogramRule::kTorch1_13 ? 0 : 2e-6F * (high - low);
  EXPECT_NEAR(range.min.item<float>(), low, digits) << what;
  EXPECT_NEAR(range.max.item<float>(), high, digits) << what;
}

void check_observer(const TorchAoGoldens& goldens, const json& record, Counts& counts) {
  const auto what = name_of(record);
  const ObserverConfig config = config_of(record);
  if (record.contains("construct_error")) {
    EXPECT_THROW(make_observer_module(config), Error) << what;
    ++counts.refused;
    return;
  }
  auto module = make_observer_module(config);
  if (record["args"].contains("upsample_rate"))
    module.setattr("upsample_rate", record["args"]["upsample_rate"].get<int64_t>());
  for (const auto& batch : goldens.stream(record["stream"])) testing::run(module, batch);
  const auto min = testing::numbers(record["min_val"]).to(at::kFloat),
             max = testing::numbers(record["max_val"]).to(at::kFloat);
  EXPECT_TRUE(at::equal(module.attr("min_val").toTensor().reshape({-1}), min)) << what << module.attr("min_val") << min;
  EXPECT_TRUE(at::equal(module.attr("max_val").toTensor().reshape({-1}), max)) << what << module.attr("max_val") << max;
  if (config.type == ObserverType::kHistogram) {
    check_histogram(goldens, record, module, config, what, counts);
    ++(config.histogram_rule == HistogramRule::kTorch1_13 ? counts.histograms : counts.newer_histograms);
  } else {
    ++counts.min_max;
  }
  expect_parameters(calculate_qparams(module), record["scale"], record["zero_point"], what);
}

Counts check_observers(const TorchAoGoldens& goldens) {
  Counts counts;
  for (const auto& record : goldens.json["observers"]) {
    if (kObservers.count(record["observer"])) check_observer(goldens, record, counts);
  }
  return counts;
}

ObserverConfig fake_quantize_config(const std::string& name) {
  using Type = FakeQuantizeType;
  const auto average = ObserverType::kMovingAverageMinMax, per_channel = ObserverType::kMovingAveragePerChannelMinMax;
  const auto config = [](ObserverType type, Type fake_quantize, c10::ScalarType dtype, c10::QScheme scheme) {
    ObserverConfig result;
    result.type = type, result.fake_quantize = fake_quantize, result.dtype = dtype, result.qscheme = scheme;
    return result;
  };
  const auto activation = [&](Type type) { return config(average, type, c10::kQUInt8, c10::kPerTensorAffine); };
  const auto weight = [&](Type type) { return config(average, type, c10::kQInt8, c10::kPerTensorSymmetric); };
  const auto channels = [&](Type type) { return config(per_channel, type, c10::kQInt8, c10::kPerChannelSymmetric); };
  const auto fixed = [&](double scale, int64_t zero_point) {
    auto result = activation(Type::kFixedQParams);
    result.type = ObserverType::kFixedQParams, result.scale = scale, result.zero_point = zero_point;
    return result;
  };
  std::map<std::string, ObserverConfig> configs{{"FakeQuantize_quint8_affine", activation(Type::kFakeQuantize)},
                                                {"FakeQuantize_quint8_reduce", activation(Type::kFakeQuantize)},
                                                {"FakeQuantize_qint8_sym", weight(Type::kFakeQuantize)},
                                                {"FakeQuantize_qint8_perchannel", channels(Type::kFakeQuantize)},
                                                {"Fused_act", activation(Type::kFusedMovingAvgObs)},
                                                {"Fused_act_reduce", activation(Type::kFusedMovingAvgObs)},
                                                {"Fused_wt", weight(Type::kFusedMovingAvgObs)},
                                                {"Fused_neg127", weight(Type::kFusedMovingAvgObs)},
                                                {"Fused_perchannel_wt", channels(Type::kFusedMovingAvgObs)},
                                                {"Fixed_0to1", fixed(1.0 / 256, 0)},
                                                {"Fixed_neg1to1", fixed(2.0 / 256, 128)},
                                                {"Learnable_pt", activation(Type::kLearnable)},
                                                {"Learnable_pt_gradscale", activation(Type::kLearnable)},
                                                {"Learnable_pc", channels(Type::kLearnable)}};
  configs["FakeQuantize_quint8_reduce"].reduce_range = configs["Fused_act_reduce"].reduce_range = true;
  configs["Learnable_pt_gradscale"].use_grad_scaling = true;
  auto& narrow = configs["Fused_neg127"];
  narrow.quant_min = -127, narrow.quant_max = 127, narrow.eps = 0.000244140625;
  return configs.at(name);
}

void expect_close(const at::Tensor& actual, const at::Tensor& expected, double relative, const std::string& what) {
  ASSERT_EQ(actual.numel(), expected.numel()) << what;
  const auto a = actual.to(at::kDouble).reshape({-1}), b = expected.to(at::kDouble).reshape({-1});
  EXPECT_TRUE(((a - b).abs() <= b.abs() * relative).all().item<bool>()) << what << a << b;
}

/// Two batches are observed and quantized, the third one, too, or with learnable parameters learned from.
void check_fake_quantize(const TorchAoGoldens& goldens, const json& record) {
  const std::string name = record["module"], stream = record["stream"];
  const ObserverConfig config = fake_quantize_config(name);
  auto module = make_observer_module(config);
  const bool learnable = config.fake_quantize == FakeQuantizeType::kLearnable;
  for (size_t i = 0; i < record["steps"].size(); ++i) {
    const auto& step = record["steps"][i];
    const auto what = name + " " + stream + " step " + std::to_string(i);
    if (learnable && i == 2) disable_observer(module);
    auto x = goldens.array(stream + "." + std::to_string(i)).clone().requires_grad_();
    const auto y = testing::run(module, x);
    y.backward(0.5 + 0.1 * at::sign(x.detach()));
    EXPECT_TRUE(at::equal(y, goldens.array(step["y"]))) << what << (y - goldens.array(step["y"])).abs().max();
    EXPECT_TRUE(at::equal(x.grad(), goldens.array(step["x_grad"]))) << what;
    expect_close(module.attr("scale").toTensor(), testing::numbers(step["scale"]), 1e-6, what + " scale");
    expect_close(module.attr("zero_point").toTensor(), testing::numbers(step["zero_point"]), 0, what + " zero point");
    if (step.contains("scale_grad")) {
      expect_close(module.attr("scale").toTensor().grad(), testing::numbers(step["scale_grad"]), 1e-5,
                   what + " gradient");
      expect_close(module.attr("zero_point").toTensor().grad(), testing::numbers(step["zp_grad"]), 1e-5,
                   what + " gradient");
    }
    if (!learnable && step.contains("observer_scale")) {
      expect_parameters(calculate_qparams(module), step["observer_scale"], step["observer_zero_point"], what);
    }
  }
}

int64_t check_fake_quantizes(const TorchAoGoldens& goldens) {
  int64_t count = 0;
  for (const auto& record : goldens.json["fake_quant"]) {
    check_fake_quantize(goldens, record);
    ++count;
  }
  return count;
}

TEST(FakeQuantizeModuleGolden, MeetsTorchAo) {
  EXPECT_EQ(check_fake_quantizes(TorchAoGoldens(testing::carried_torch_ao_goldens())), 14);
}

TEST(FakeQuantizeModuleGolden, AllOfTorchAo) {
  const auto folder = testing::complete_torch_ao_goldens();
  if (folder.empty()) GTEST_SKIP() << "the goldens are not here (set TSQUANT_GOLDENS)";
  EXPECT_EQ(check_fake_quantizes(TorchAoGoldens(folder)), 112);
}

TEST(ObserverModuleGolden, MeetsTorchAo) {
  const auto counts = check_observers(TorchAoGoldens(testing::carried_torch_ao_goldens()));
  EXPECT_EQ(counts.min_max, 212);
  EXPECT_EQ(counts.histograms, 30);
  EXPECT_EQ(counts.newer_histograms, 4);
  EXPECT_EQ(counts.refused, 8);
}

ObserverConfig config_named(const std::string& name) {
  const std::map<std::string, ObserverType> types{{"MinMax", ObserverType::kMinMax},
                                                  {"PerChannel", ObserverType::kPerChannelMinMax},
                                                  {"Histogram", ObserverType::kHistogram},
                                                  {"Placeholder", ObserverType::kPlaceholder},
                                                  {"Noop", ObserverType::kNoop},
                                                  {"Recording", ObserverType::kRecording},
                                                  {"ReuseInput", ObserverType::kReuseInput},
                                                  {"fixed_0to1", ObserverType::kFixedQParams},
                                                  {"fixed_neg1to1", ObserverType::kFixedQParams}};
  ObserverConfig config;
  config.type = types.at(name);
  if (config.type == ObserverType::kPerChannelMinMax) config.qscheme = c10::kPerChannelAffine;
  if (name == "fixed_0to1") config.scale = 1.0 / 256;
  if (name == "fixed_neg1to1") config.scale = 2.0 / 256, config.zero_point = 128;
  return config;
}

TEST(ObserverModuleGolden, NeverRun) {
  const TorchAoGoldens goldens(testing::carried_torch_ao_goldens());
  for (const auto& [name, expected] : goldens.json["never_run"].items()) {
    const auto module = make_observer_module(config_named(name));
    if (expected.contains("error")) {
      EXPECT_THROW(calculate_qparams(module), Error) << name;
    } else {
      const auto q = calculate_qparams(module);
      expect_parameters(q, expected["scale"], expected["zero_point"], name);
      EXPECT_EQ(q.observed, name.rfind("fixed", 0) == 0) << name;
    }
  }
}

/// Where torch.ao fails, so do we for NaN; its histogram fails for infinite values, integers and half precision, too,
/// which ours leaves out or converts.
TEST(ObserverModuleGolden, SpecialValues) {
  const TorchAoGoldens goldens(testing::carried_torch_ao_goldens());
  const std::map<std::string, at::Tensor> inputs{{"nan", torch::tensor({1.0F, NAN, 5.0F})},
                                                 {"inf", torch::tensor({1.0F, INFINITY, 5.0F})},
                                                 {"int64", torch::tensor({1, 2, 5}, at::kLong)},
                                                 {"fp16", torch::tensor({1.0F, 2.0F, 5.0F}).to(at::kHalf)}};
  for (const auto& [key, expected] : goldens.json["special_values"].items()) {
    const auto dot = key.find('.');
    json record;
    record["observer"] = key.substr(dot + 1);
    const bool per_channel = key.find("PerChannel") != std::string::npos;
    record["args"] = {{"dtype", "quint8"}, {"qscheme", per_channel ? "per_channel_affine" : "per_tensor_affine"}};
    auto module = make_observer_module(config_of(record));
    testing::run(module, inputs.at(key.substr(0, dot)).unsqueeze(0));
    const bool is_histogram = record["observer"] == "HistogramObserver";
    if (is_histogram) {
      const float scale = calculate_qparams(module).scale.item<float>();
      EXPECT_GT(scale, 0.018F) << key;
      EXPECT_LT(scale, 0.021F) << key;
    } else if (expected.contains("error")) {
      EXPECT_THROW(calculate_qparams(module), Error) << key;
    } else {
      const auto q = calculate_qparams(module);
      const auto text = [](const json& list) { return std::stod(list.get<std::string>().substr(1)); };
      EXPECT_EQ(q.scale.item<float>(), static_cast<float>(text(expected["scale"]))) << key;
      EXPECT_EQ(static_cast<double>(q.zero_point.item<int64_t>()), text(expected["zero_point"])) << key;
    }
  }
}

TEST(ObserverModuleGolden, AllOfTorchAo) {
  const auto folder = testing::complete_torch_ao_goldens();
  if (folder.empty()) GTEST_SKIP() << "the goldens are not here (set TSQUANT_GOLDENS)";
  const auto counts = check_observers(TorchAoGoldens(folder));
  EXPECT_EQ(counts.min_max, 2014);
  EXPECT_EQ(counts.histograms, 285);
  EXPECT_EQ(counts.newer_histograms, 38);
  EXPECT_EQ(counts.refused, 8);
}

}  // namespace
}  // namespace tsquant

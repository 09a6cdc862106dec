// Observer modules against torch.ao 1.13.1: all goldens where they are present, a part of them everywhere
// (scripts/pack_observer_goldens.py).
#include <gtest/gtest.h>

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
};

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
    const auto histogram = goldens.array(record["histogram_key"]);
    EXPECT_TRUE(at::equal(module.attr("histogram").toTensor().to(at::kFloat), histogram.to(at::kFloat))) << what;
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

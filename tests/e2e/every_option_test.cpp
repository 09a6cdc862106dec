// Every flag of the table of options changes what `tsquant quantize` makes of one model.
#include <gtest/gtest.h>

#include <filesystem>

#include "cli/option_flags.h"
#include "e2e/program.h"
#include "options/tables.h"
#include "support/support.h"

namespace tsquant {
namespace {

using nlohmann::json;
using Strings = std::vector<std::string>;

/// Flags with a value that shows, and the flags that they need to be seen.
struct Case {
  Strings flags, base;
};

class EveryOption : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = testing::temp_dir();
    testing::write_small_model(folder_);
  }
  static std::string path(const std::string& name) { return folder_ + "/" + name; }

  /// What the options made: the file's operators and quantizers, or how the run ended.
  static json made(Strings options) {
    Strings arguments{"quantize", path("model.pt"), "-o",       path("out.pt"), "--data", path("data.pt"),
                      "--inputs", "images",         "--labels", "labels",       "--json", "-"};
    arguments.insert(arguments.end(), options.begin(), options.end());
    const auto result = testing::tsquant(arguments);
    if (result.code != 0 && result.code != 6) return {{"code", result.code}, {"err", result.err}};
    json report = result.json();
    for (const char* of_the_run : {"options", "phases", "rewrites"}) report.erase(of_the_run);
    if (report.contains("accuracy_control")) report.at("accuracy_control").erase("seconds");
    report["code"] = result.code;
    report["tensors"] = values();
    return report;
  }

  /// What the written model computes, which biases and folded weights change too.
  static double values() {
    const auto model = torch::jit::load(path("out.pt"));
    return torch::jit::Module(model)
        .forward({at::linspace(-3, 3, 3 * 16 * 16).reshape({1, 3, 16, 16})})
        .toTensor()
        .to(c10::kDouble)
        .abs()
        .sum()
        .item<double>();
  }
  static std::string folder_;
};
std::string EveryOption::folder_;

const std::map<std::string, Case>& cases() {
  const Strings limit{"--max-drop",      "0",   "--validation-metric", "agreement", "--weights-bits", "2",
                      "--target-device", "NPU", "--bias-correction",   "none"};
  static const std::map<std::string, Case> table{
      {"--subset-size", {{"5"}, {}}},
      {"--no-fold", {{}, {}}},
      {"--form", {{"reference"}, {}}},
      {"--engine", {{"onednn"}, {"--form", "lowered"}}},
      {"--statistics", {{"batch"}, {"--batch-size", "8"}}},
      {"--bias-correction", {{"none"}, {"--bias-smallest-shift", "0"}}},
      {"--bias-threshold", {{"0"}, {"--bias-smallest-shift", "0", "--bias-reference", "collected"}}},
      {"--bias-reference", {{"collected"}, {"--bias-smallest-shift", "0"}}},
      {"--bias-smallest-shift", {{"0"}, {}}},
      {"--smooth-quant", {{}, {}}},
      {"--smooth-quant-alpha-convolution", {{"0.5"}, {"--smooth-quant"}}},
      {"--smooth-quant-alpha-matmul", {{"0.3"}, {"--smooth-quant"}}},
      {"--range-estimator-activations", {{"minmax"}, {}}},
      {"--range-estimator-weights", {{"mean_quantile"}, {}}},
      {"--allow-empty", {{}, {"--ignore-pattern", ".*"}}},
      {"--skip-pass", {{"fold_batch_norm"}, {}}},
      {"--mode", {{"fp8_e4m3"}, {}}},
      {"--preset", {{"mixed"}, {}}},
      {"--target-device", {{"NPU"}, {"--weights-bits", "4"}}},
      {"--model-type", {{"transformer"}, {}}},
      {"--ignore-name", {{"/linear/0"}, {}}},
      {"--ignore-pattern", {{"block/.*"}, {}}},
      {"--ignore-type", {{"conv2d"}, {}}},
      {"--ignore-subgraph", {{"stem/conv2d/0:block/conv2d/0"}, {}}},
      {"--lenient-rules", {{}, {"--ignore-name", "nowhere"}}},
      {"--overflow-fix", {{"enable"}, {}}},
      {"--quantize-outputs", {{}, {}}},
      {"--activations-bits", {{"4"}, {"--target-device", "NPU"}}},
      {"--activations-mode", {{"asymmetric"}, {}}},
      {"--activations-signed", {{"true"}, {}}},
      {"--activations-per-channel", {{"true"}, {}}},
      {"--activations-narrow-range", {{"true"}, {}}},
      {"--activations-fp8", {{"f8e5m2"}, {"--mode", "fp8_e4m3"}}},
      {"--weights-bits", {{"4"}, {"--target-device", "NPU"}}},
      {"--weights-mode", {{"asymmetric"}, {}}},
      {"--weights-signed", {{"false"}, {}}},
      {"--weights-per-channel", {{"false"}, {}}},
      {"--weights-narrow-range", {{"false"}, {}}},
      {"--weights-fp8", {{"f8e5m2"}, {"--mode", "fp8_e4m3"}}},
      {"--max-drop", {{"0.5"}, {}}},
      {"--max-iterations", {{"0"}, limit}},
      {"--tune", {{}, limit}},
      {"--restore-mode", {{"only_activations"}, limit}},
  };
  return table;
}

/// Shown elsewhere: their effect is a file, a refusal, a choice of threads, or needs another model.
const std::map<std::string, std::string> kElsewhere{
    {"--keep-activations", "QuantizeOptions.StatisticsAtOnceOrAfterTheRun"},
    {"--cost", "LowerToEngineCost"},
    {"--bias-for-all-nodes", "QuantizeOptions.BiasCorrection"},
    {"--drop-type", "DamagedDemo.DropTypesAndMetrics"},
    {"--channel-alignment", "QuantizeOptions.ChannelAlignment"},
    {"--propagation-rule", "TracePlacement"},
    {"--statistics-path", "QuantizeOptions.StatisticsFiles"},
    {"--stats-out", "QuantizeOptions.StatisticsFiles"},
    {"--stats-in", "QuantizeOptions.StatisticsFiles"},
    {"--dump-dir", "QuantizeOptions.DumpedGraphs"},
    {"--ranking-subset-size", "AccuracyOptions"},
    {"--ranking-workers", "DamagedDemo"},
    {"--intermediate-dir", "DamagedDemo"},
    {"--convert-to-mixed", "AccuracyOptions.MixedPresetIsTriedBeforeReverting"},
};

TEST_F(EveryOption, OfTheTableHasACase) {
  std::set<std::string> flags, covered;
  const auto collect = [&](const auto& row) { flags.insert(cli::first_name(row.flag)); };
  cli::for_each_flag(fields<QuantizePt2eOptions>(), collect);
  cli::for_each_flag(fields<OpenVINOQuantizerOptions>(), collect);
  cli::for_each_flag(fields<AccuracyControlOptions>(), collect);
  for (const auto& entry : cases()) covered.insert(entry.first);
  for (const auto& entry : kElsewhere) EXPECT_TRUE(covered.insert(entry.first).second) << entry.first;
  EXPECT_EQ(flags, covered);
}

TEST_F(EveryOption, ChangesTheResult) {
  std::map<Strings, json> bases;
  for (const auto& [flag, c] : cases()) {
    if (bases.count(c.base) == 0) bases[c.base] = made(c.base);
    Strings options = c.base;
    options.push_back(flag);
    options.insert(options.end(), c.flags.begin(), c.flags.end());
    const json result = made(options);
    EXPECT_NE(result, bases.at(c.base)) << flag;
  }
}

}  // namespace
}  // namespace tsquant

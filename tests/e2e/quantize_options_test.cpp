#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <set>

#include "e2e/program.h"
#include "support/support.h"

namespace tsquant {
namespace {

using nlohmann::json;
using testing::bytes_of;
using testing::Outcome;
using Strings = std::vector<std::string>;

/// A convolution network and a network of linear layers with channels of very different size.
class QuantizeOptions : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = testing::temp_dir();
    testing::write_small_model(folder_);
    write_linear_model();
  }
  static void write_linear_model() {
    at::manual_seed(5);
    const auto wide = at::ones({16});
    wide[3] = 40;
    testing::define(
        "def forward(self, x, rate: int, quiet: bool = False):\n"
        "  assert rate == 16000, 'unknown rate'\n"
        "  y = torch.relu(torch.linear(torch.layer_norm(x, [16], self.g, self.g), self.a, self.b))\n"
        "  if quiet:\n"
        "    y = y * 0.25\n"
        "  return torch.linear(y, self.c)\n",
        {{"g", wide}, {"a", at::randn({32, 16}) / wide}, {"b", at::randn({32})}, {"c", at::randn({4, 32})}})
        .save(path("linear.pt"));
    torch::jit::Module data("Data");
    data.register_buffer("rows", at::randn({32, 16}));
    data.save(path("rows.pt"));
  }
  static std::string path(const std::string& name) { return folder_ + "/" + name; }
  static Outcome quantize(const Strings& more, const std::string& model = "model.pt") {
    Strings arguments{"quantize", path(model), "-o", path("out.pt"), "--json", "-"};
    const Strings data = model == "model.pt"
                             ? Strings{"--data", path("data.pt"), "--inputs", "images"}
                             : Strings{"--data", path("rows.pt"), "--inputs", "rows", "--scalar", "16000"};
    arguments.insert(arguments.end(), data.begin(), data.end());
    arguments.insert(arguments.end(), more.begin(), more.end());
    return testing::tsquant(arguments);
  }
  /// The report of a run that must succeed.
  static json report(const Strings& more, const std::string& model = "model.pt") {
    const auto result = quantize(more, model);
    EXPECT_EQ(result.code, 0) << (more.empty() ? "" : more.front()) << " " << result.err;
    return result.code == 0 ? result.json() : json();
  }
  static std::string folder_;
};
std::string QuantizeOptions::folder_;

double scale_of(const json& report, const std::string& kind) {
  for (const auto& quantizer : report.at("quantizers")) {
    if (quantizer.at("kind") == kind) return quantizer.at("scale").at(0);
  }
  return std::nan("");
}

/// Of the widest activation.
double widest(const json& report) {
  double scale = 0;
  for (const auto& quantizer : report.at("quantizers")) {
    if (quantizer.at("kind") == "activation") scale = std::max(scale, quantizer.at("scale").at(0).get<double>());
  }
  return scale;
}

/// Scale of the activation that stands last.
double last_activation(const json& report) {
  double scale = 0;
  for (const auto& quantizer : report.at("quantizers")) {
    if (quantizer.at("kind") == "activation") scale = quantizer.at("scale").at(0);
  }
  return scale;
}

const json& first(const json& report, const std::string& kind) {
  for (const auto& quantizer : report.at("quantizers")) {
    if (quantizer.at("kind") == kind) return quantizer;
  }
  throw std::out_of_range(kind);
}

TEST_F(QuantizeOptions, RangeEstimators) {
  std::set<double> scales;
  for (const std::string name :
       {"minmax", "mean_minmax", "median_minmax", "mean_no_outliers_minmax", "mean_quantile", "histogram"}) {
    scales.insert(scale_of(report({"--range-estimator-activations", name}), "activation"));
  }
  EXPECT_EQ(scales.size(), 6u) << "every estimator finds another range";
  const double widest = scale_of(report({}), "weight");
  const double without_outliers = scale_of(report({"--range-estimator-weights", "mean_quantile"}), "weight");
  EXPECT_LT(without_outliers, widest);
  EXPECT_GT(without_outliers, 0.9 * widest) << "one value in 10,000 is an outlier";
  EXPECT_EQ(quantize({"--range-estimator-weights", "best"}).code, 2);
}

TEST_F(QuantizeOptions, QuantizationParameters) {
  const auto four = report({"--weights-bits", "4", "--target-device", "NPU"});
  EXPECT_EQ(first(four, "weight").at("quant_max"), 7);
  EXPECT_EQ(quantize({"--weights-bits", "16"}).code, 2);
  EXPECT_EQ(first(report({"--weights-per-channel", "false"}), "weight").at("scale").size(), 1u);
  EXPECT_GT(first(report({"--weights-per-channel", "true"}), "weight").at("scale").size(), 1u);
  EXPECT_NE(first(report({"--activations-mode", "asymmetric"}), "activation").at("zero_point"),
            first(report({"--activations-mode", "symmetric"}), "activation").at("zero_point"));
  // Every row of the table has signed codes: asking for them changes nothing, asking for others leaves no row.
  EXPECT_EQ(report({"--weights-signed", "true"}).at("quantizers"), report({}).at("quantizers"));
  EXPECT_NE(scale_of(report({"--weights-narrow-range", "false"}), "weight"),
            scale_of(report({"--weights-narrow-range", "true"}), "weight"));
  for (const Strings& options : {Strings{"--activations-signed", "true"}, Strings{"--weights-signed", "false"},
                                 Strings{"--activations-narrow-range", "true"}}) {
    const auto refused = quantize(options);
    EXPECT_EQ(refused.code, 2) << "no hardware table has it";
    EXPECT_NE(refused.err.find("unset the options --"), std::string::npos) << refused.err;
  }
  EXPECT_EQ(quantize({"--weights-signed", "perhaps"}).code, 2);
}

TEST_F(QuantizeOptions, Fp8Modes) {
  EXPECT_EQ(first(report({"--mode", "fp8_e4m3"}), "weight").at("dtype"), "f8e4m3");
  const auto mixed = report({"--mode", "fp8_e4m3", "--activations-fp8", "f8e5m2"});
  EXPECT_EQ(first(mixed, "activation").at("dtype"), "f8e5m2");
  EXPECT_EQ(first(mixed, "weight").at("dtype"), "f8e4m3");
  EXPECT_EQ(first(report({"--mode", "fp8_e5m2", "--weights-fp8", "f8e4m3"}), "weight").at("dtype"), "f8e4m3");
  EXPECT_EQ(quantize({"--mode", "fp4"}).code, 2);
  EXPECT_EQ(quantize({"--mode", "fp8_e4m3", "--preset", "mixed"}).code, 2);
  EXPECT_EQ(quantize({"--mode", "fp8_e4m3", "--form", "reference"}).code, 2);
}

TEST_F(QuantizeOptions, OverflowFix) {
  const double first_layer = scale_of(report({}), "weight");
  EXPECT_NEAR(first_layer / scale_of(report({"--overflow-fix", "disable"}), "weight"), 2, 0.05);
  const auto sum = [&](const Strings& options) {
    double total = 0;
    const auto result = report(options);
    for (const auto& quantizer : result.at("quantizers")) {
      if (quantizer.at("kind") == "weight") total += quantizer.at("scale").at(0).get<double>();
    }
    return total;
  };
  EXPECT_GT(sum({"--overflow-fix", "enable"}), sum({"--overflow-fix", "first_layer_only"}));
}

TEST_F(QuantizeOptions, SmoothQuantAndChannelAlignment) {
  const auto plain = report({}, "linear.pt");
  EXPECT_EQ(plain.at("options").at("smooth_quant"), "false");
  const auto smooth = report({"--smooth-quant"}, "linear.pt");
  EXPECT_EQ(smooth.at("options").at("smooth_quant"), "true");
  EXPECT_LT(widest(smooth), widest(plain) / 2) << "the wide channel became narrow";
  const auto half = report({"--smooth-quant", "--smooth-quant-alpha-matmul", "0.5"}, "linear.pt");
  EXPECT_GT(last_activation(half), last_activation(smooth));
  const auto off = report({"--smooth-quant", "--smooth-quant-alpha-matmul", "-1"}, "linear.pt");
  EXPECT_EQ(off.at("quantizers"), plain.at("quantizers"));
  const auto transformer = report({"--model-type", "transformer"}, "linear.pt");
  EXPECT_EQ(transformer.at("options").at("smooth_quant"), "true") << "as nncf.quantize does";
  const auto refused = report({"--model-type", "transformer", "--no-smooth-quant"}, "linear.pt");
  EXPECT_EQ(refused.at("options").at("smooth_quant"), "false");
  const auto wrong = quantize({"--smooth-quant", "--smooth-quant-alpha-matmul", "1.5"}, "linear.pt");
  EXPECT_EQ(wrong.code, 2);
  EXPECT_NE(wrong.err.find("1.5"), std::string::npos) << wrong.err;
  const auto convolutions = report({"--smooth-quant", "--smooth-quant-alpha-convolution", "0.5"});
  const auto none = report({"--smooth-quant"});
  EXPECT_NE(scale_of(convolutions, "weight"), scale_of(none, "weight"));
  for (const std::string kind : {"matmul", "convolution"}) {
    const std::string option = "--smooth-quant-alpha-" + kind;
    for (const Strings& off : {Strings{}, Strings{"--model-type", "transformer", "--no-smooth-quant"}}) {
      Strings all{option, "0.5"};
      all.insert(all.end(), off.begin(), off.end());
      const auto unused = quantize(all);
      EXPECT_EQ(unused.code, 2);
      EXPECT_NE(unused.err.find(option + " is set, but SmoothQuant does not run"), std::string::npos) << unused.err;
    }
  }
}

TEST_F(QuantizeOptions, ChannelAlignment) {
  at::manual_seed(6);
  const auto uneven = at::pow(2.0, at::arange(6)).to(at::kFloat).view({6, 1, 1, 1});
  testing::define("def forward(self, x):\n  return torch.conv2d(torch.conv2d(x, self.a), self.b)\n",
                  {{"a", at::randn({6, 3, 3, 3}) * uneven}, {"b", at::randn({5, 6, 1, 1})}})
      .save(path("pair.pt"));
  const auto run = [&](const Strings& more) {
    Strings arguments{"quantize",      path("pair.pt"), "-o",     path("out.pt"), "--data",
                      path("data.pt"), "--inputs",      "images", "--json",       "-"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return testing::tsquant(arguments).json();
  };
  const auto plain = run({}), aligned = run({"--channel-alignment"});
  EXPECT_EQ(aligned.at("options").at("pairs_aligned"), "1 of 1");
  EXPECT_NE(first(aligned, "weight").at("scale"), first(plain, "weight").at("scale"));
  EXPECT_EQ(report({}).at("options").at("channel_alignment"), "false");
}

TEST_F(QuantizeOptions, BiasCorrection) {
  const auto corrected = [&](const Strings& options) {
    const auto result = report(options);
    const auto& recorded = result.at("options");
    return recorded.contains("biases_corrected") ? recorded.at("biases_corrected").get<std::string>() : "";
  };
  EXPECT_EQ(corrected({"--bias-correction", "none"}), "");
  EXPECT_NE(corrected({"--bias-correction", "fast"}), "");
  EXPECT_NE(corrected({"--bias-threshold", "0"}), corrected({}));
  EXPECT_EQ(quantize({"--bias-correction", "slow"}).code, 2);
  EXPECT_NE(corrected({"--bias-smallest-shift", "1e9"}), corrected({}));
  EXPECT_EQ(quantize({"--bias-threshold", "-1"}).code, 2);
  EXPECT_EQ(quantize({"--bias-smallest-shift", "-1"}).code, 2);
  for (const Strings& given : {Strings{"--bias-threshold", "1"}, Strings{"--bias-smallest-shift", "1"},
                               Strings{"--bias-for-all-nodes"}, Strings{"--bias-reference", "collected"}}) {
    Strings all{"--bias-correction", "none"};
    all.insert(all.end(), given.begin(), given.end());
    const auto unused = quantize(all);
    EXPECT_EQ(unused.code, 2);
    EXPECT_NE(unused.err.find(given.front() + " is set, but biases are not corrected (--bias-correction none)"),
              std::string::npos)
        << unused.err;
  }
  const auto file = [&](const Strings& options, const std::string& model = "model.pt") {
    report(options, model);
    return bytes_of(path("out.pt"));
  };
  EXPECT_TRUE(file({"--bias-reference", "collected"}) != file({})) << "the two references give other biases";
  EXPECT_TRUE(file({"--bias-for-all-nodes"}, "linear.pt") != file({}, "linear.pt")) << "the last layer gets a bias";
  EXPECT_TRUE(file({"--bias-correction", "accurate"}) != file({}));
}

TEST_F(QuantizeOptions, WarningsOfTheLibraryAreShown) {
  const std::string batches = "statistics per item of a batch can be inaccurate";
  const auto warned = [&](const Strings& more) {
    return report(more, "linear.pt").at("warnings").dump().find(batches) != std::string::npos;
  };
  EXPECT_TRUE(warned({"--model-type", "transformer", "--batch-size", "4"}));
  EXPECT_FALSE(warned({"--model-type", "transformer"}));
  EXPECT_FALSE(warned({"--batch-size", "4"}));
  std::ofstream(path("alphas.json")) << R"({"compression": {"algorithm": "quantization",
      "advanced_parameters": {"smooth_quant_alphas": {"matmul": 0.5}}}})";
  const auto unused = quantize({"--config", path("alphas.json")});
  ASSERT_EQ(unused.code, 0) << unused.err;
  EXPECT_NE(unused.out.find("smooth_quant_alphas has no effect"), std::string::npos) << unused.out;
}

TEST_F(QuantizeOptions, TheLimitIsNotNegative) {
  EXPECT_EQ(report({"--limit", "3"}).at("samples"), 3);
  EXPECT_EQ(report({"--limit", "0"}).at("samples"), 24) << "all";
  const auto negative = quantize({"--limit", "-3"});
  EXPECT_EQ(negative.code, 2);
  EXPECT_NE(negative.err.find("--limit"), std::string::npos) << negative.err;
  EXPECT_EQ(quantize({"--max-drop", "1", "--validation-limit", "-3"}).code, 2);
}

TEST_F(QuantizeOptions, StatisticsAtOnceOrAfterTheRun) {
  const auto kept = report({"--keep-activations"}), plain = report({});
  EXPECT_EQ(kept.at("quantizers"), plain.at("quantizers")) << "the same statistics (what it keeps: quantize_test)";
  EXPECT_EQ(kept.at("options").at("inplace_statistics"), "false");
  EXPECT_EQ(plain.at("options").at("inplace_statistics"), "true");
}

TEST_F(QuantizeOptions, StatisticsFiles) {
  const auto written = report({"--stats-out", path("stats.bin")});
  ASSERT_TRUE(std::filesystem::exists(path("stats.bin")));
  EXPECT_EQ(report({"--stats-in", path("stats.bin")}).at("quantizers"), written.at("quantizers"));
  const auto other = quantize({"--stats-in", path("stats.bin"), "--subset-size", "3"});
  EXPECT_EQ(other.code, 5);
  EXPECT_NE(other.err.find("--subset-size is \"24\""), std::string::npos) << other.err;
  std::filesystem::create_directories(path("cache"));
  report({"--statistics-path", path("cache")});
  EXPECT_FALSE(testing::files_in(path("cache")).empty());
  EXPECT_EQ(report({"--statistics-path", path("cache")}).at("quantizers"), written.at("quantizers"));
}

TEST_F(QuantizeOptions, Strip) {
  report({"--form", "fake_quantize"});
  const auto strip = [&](const std::string& model, const std::string& format) {
    return testing::tsquant({"strip", path(model), "-o", path(format + ".pt"), "--format", format});
  };
  for (const std::string format : {"native", "dq", "in_place"}) {
    const auto result = strip("out.pt", format);
    ASSERT_EQ(result.code, 0) << result.err;
    const auto compared = testing::tsquant({"compare", path("out.pt"), path(format + ".pt"), "--data", path("data.pt"),
                                            "--inputs", "images", "--json", "-"});
    ASSERT_EQ(compared.code, 0) << compared.err;
    EXPECT_EQ(compared.json().at("outputs").at(0).at("max_error"), 0.0) << format;
  }
  EXPECT_LT(std::filesystem::file_size(path("dq.pt")), std::filesystem::file_size(path("in_place.pt")));
  const auto stored = [&](const std::string& file) {
    const auto result = testing::tsquant({"report", path(file), "--json", "-"});
    EXPECT_EQ(result.code, 0) << result.err;
    return result.json();
  };
  EXPECT_EQ(stored("dq.pt").at("options").at("strip"), "dq");
  EXPECT_EQ(stored("dq.pt").at("nodes"), stored("out.pt").at("nodes")) << "the report is carried over";
  EXPECT_LT(stored("dq.pt").at("quantized_bytes"), stored("in_place.pt").at("quantized_bytes"));
  report({"--form", "lowered"});
  for (const std::string format : {"native", "dq", "in_place"}) {
    const auto lowered = strip("out.pt", format);
    EXPECT_EQ(lowered.code, 4);
    EXPECT_NE(lowered.err.find("is an integer kernel"), std::string::npos) << lowered.err;
  }
  const auto untouched = strip("model.pt", "dq");
  EXPECT_EQ(untouched.code, 0) << untouched.err;
  EXPECT_NE(untouched.err.find("warning: strip: the model has no quantizers"), std::string::npos) << untouched.err;
  const auto none = testing::tsquant({"report", path("dq.pt")});
  EXPECT_EQ(none.code, 3);
  EXPECT_NE(none.err.find("the archive holds no report"), std::string::npos) << none.err;
  EXPECT_EQ(strip("out.pt", "onnx").code, 2);
}

TEST_F(QuantizeOptions, ScalarArguments) {
  const auto by_name = report({"--scalar", "quiet=true"}, "linear.pt");
  const auto plain = report({}, "linear.pt");
  EXPECT_NE(by_name.at("quantizers"), plain.at("quantizers")) << "the flag reaches the model";
  const Strings data{"--data", path("rows.pt"), "--inputs", "rows"};
  const auto run = [&](const Strings& more) {
    Strings arguments{"quantize", path("linear.pt"), "-o", path("out.pt")};
    arguments.insert(arguments.end(), data.begin(), data.end());
    arguments.insert(arguments.end(), more.begin(), more.end());
    return testing::tsquant(arguments);
  };
  EXPECT_EQ(run({"--scalar", "rate=16000"}).code, 0);
  const auto missing = run({});
  EXPECT_EQ(missing.code, 5);
  EXPECT_NE(missing.err.find("rate"), std::string::npos) << missing.err;
  EXPECT_EQ(run({"--scalar", "8000"}).code, 5) << "the model refuses this rate";
  const auto word = run({"--scalar", "fast"});
  EXPECT_EQ(word.code, 2);
  EXPECT_NE(word.err.find("\"fast\" is no number"), std::string::npos) << word.err;
  const auto evaluated =
      testing::tsquant({"evaluate", path("out.pt"), "--data", path("rows.pt"), "--inputs", "rows", "--scalar", "16000",
                        "--metric", "agreement", "--reference", path("linear.pt"), "--json", "-"});
  EXPECT_EQ(evaluated.code, 0) << evaluated.err;
}

TEST_F(QuantizeOptions, DumpedGraphs) {
  const std::string folder = path("dump/graphs");
  const std::string plain = (report({}), bytes_of(path("out.pt")));
  const json dumped = report({"--dump-dir", folder});
  EXPECT_TRUE(bytes_of(path("out.pt")) == plain) << "the result is the same";
  EXPECT_NE(bytes_of(folder + "/000_captured.ir").find("graph("), std::string::npos);
  size_t changed = 0;
  std::string last;
  for (const auto& rewrite : dumped.at("rewrites")) {
    EXPECT_GE(rewrite.at("seconds").get<double>(), 0);
    if (rewrite.at("name") == "insert_qdq") EXPECT_EQ(rewrite.at("phase"), "insertion");
    if (rewrite.at("changed").get<bool>()) ++changed, last = rewrite.at("name");
  }
  std::set<std::string> files;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) files.insert(entry.path().filename().string());
  EXPECT_EQ(files.size(), changed + 1);
  EXPECT_NE(files.rbegin()->find("_" + last + ".ir"), std::string::npos) << *files.rbegin();

  std::ofstream(path("config.json")) << R"({"compression": {"algorithm": "quantization"}})";
  report({"--config", path("config.json"), "--dump-dir", path("dump/config")});
  EXPECT_TRUE(std::filesystem::exists(path("dump/config/000_captured.ir")));

  const auto refused = quantize({"--dump-dir", path("model.pt") + "/graphs"});
  EXPECT_EQ(refused.code, 7);
  EXPECT_NE(refused.err.find("cannot write the dumped graphs"), std::string::npos) << refused.err;
}

TEST_F(QuantizeOptions, WhatIsNeededCannotBeSkipped) {
  const auto refused = quantize({"--skip-pass", "insert_qdq"});
  EXPECT_EQ(refused.code, 2);
  EXPECT_NE(refused.err.find("insert_qdq cannot be left out"), std::string::npos) << refused.err;
  EXPECT_NE(refused.err.find("--skip-pass"), std::string::npos) << refused.err;
  EXPECT_NE(refused.err.find("sink_dequantize"), std::string::npos) << "the ones that can be: " << refused.err;
  const json less = report({"--form", "lowered", "--skip-pass", "sink_dequantize"});
  for (const auto& rewrite : less.at("rewrites")) EXPECT_NE(rewrite.at("name"), "sink_dequantize");
}

TEST_F(QuantizeOptions, ConfigurationFiles) {
  const std::string config = path("config.json");
  const auto with = [&](const std::string& members, const Strings& more = {}) {
    std::ofstream(config) << R"({"compression": {"algorithm": "quantization", )" << members << "}}";
    Strings arguments{"--config", config};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return quantize(arguments);
  };
  const auto result = with(R"("preset": "mixed"}, "target_devise": {"x": 1)");
  EXPECT_EQ(result.code, 2) << "a misspelt key at the top";
  EXPECT_NE(result.err.find("the nearest is \"target_device\""), std::string::npos) << result.err;
  const auto good = with(
      R"("preset": "mixed", "form": "reference", "initializer": {"range": {"num_init_samples": 8}},
         "ignored_scopes": "{re}block")",
      {"--batch-size", "4", "--allow-empty", "--skip-pass", "fold_batch_norm"});
  ASSERT_EQ(good.code, 0) << good.err;
  EXPECT_EQ(good.json().at("samples"), 2) << "8 rows in batches of 4";
  EXPECT_EQ(good.json().at("form"), "reference");
  EXPECT_EQ(good.json().at("options").at("skip_passes"), "fold_batch_norm");
  EXPECT_EQ(first(good.json(), "activation").at("dtype"), "quint8");
  int64_t ignored = 0;
  const auto written = good.json();
  for (const auto& node : written.at("nodes")) ignored += node.at("code") == "ignored";
  EXPECT_GT(ignored, 0);
  const auto unmatched = with(R"("ignored_scopes": ["{re}nowhere"]}, "epochs": {"x": 1)");
  EXPECT_EQ(unmatched.code, 2);
  const auto lenient = with(R"("ignored_scopes": ["{re}nowhere"]}, "epochs": {"x": 1)", {"--lenient-rules"});
  ASSERT_EQ(lenient.code, 0) << lenient.err;
  EXPECT_NE(lenient.json().at("warnings").dump().find("have no effect: epochs"), std::string::npos);
  const auto listed = testing::tsquant({"options", "--config", config, "--json", "-"});
  EXPECT_EQ(listed.json().at("values").at("ignored_scope.patterns"), ".*(?:nowhere)");
  const auto deprecated = with(R"("advanced_parameters": {"smooth_quant_alpha": 0.5})");
  EXPECT_NE(deprecated.json().at("warnings").dump().find("deprecated"), std::string::npos);
  const auto wrong = with(R"("weights": {"bits": 9})");
  EXPECT_EQ(wrong.code, 2);
  EXPECT_NE(wrong.err.find("compression.weights.bits: 9 is not allowed"), std::string::npos) << wrong.err;
  EXPECT_NE(wrong.err.find(config), std::string::npos) << wrong.err;
  for (const Strings& more : {Strings{"--preset", "mixed"}, Strings{"--form", "reference"}, Strings{"--smooth-quant"},
                              Strings{"--weights-bits", "8"}, Strings{"--subset-size", "3"}}) {
    const auto twice = with(R"("preset": "mixed")", more);
    EXPECT_EQ(twice.code, 2);
    EXPECT_NE(twice.err.find(more.front()), std::string::npos) << twice.err;
  }
  EXPECT_EQ(quantize({"--config", path("missing.json")}).code, 2);
}

}  // namespace
}  // namespace tsquant

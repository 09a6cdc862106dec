#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <map>
#include <set>

#include "e2e/program.h"
#include "io/archive_info.h"
#include "support/support.h"
#include "tsquant/report.h"

namespace tsquant {
namespace {

using nlohmann::json;
using testing::bytes_of;
using testing::files_in;
using testing::Outcome;

std::set<std::string> keys(const json& object) {
  std::set<std::string> names;
  for (const auto& entry : object.items()) names.insert(entry.key());
  return names;
}

/// One folder with the small model and its data for all tests of this file.
class Program : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = testing::temp_dir();
    testing::write_small_model(folder_);
  }
  static std::string path(const std::string& name) { return folder_ + "/" + name; }
  static Outcome quantize(const std::string& output, const std::vector<std::string>& more = {}) {
    std::vector<std::string> arguments{"quantize", path("model.pt"), "-o",       path(output),
                                       "--data",   path("data.pt"),  "--inputs", "images"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return testing::tsquant(arguments);
  }
  static json evaluate(const std::string& model) {
    const auto result =
        testing::tsquant({"evaluate", path(model), "--data", path("data.pt"), "--inputs", "images", "--labels",
                          "labels", "--metric", "top1", "--reference", path("model.pt"), "--json", "-"});
    EXPECT_EQ(result.code, 0) << result.err;
    return result.json();
  }
  static std::string folder_;
};
std::string Program::folder_;

TEST_F(Program, EveryFormIsReloadedAndKeepsThePredictions) {
  for (const std::string form : {"decomposed", "reference", "fake_quantize", "lowered"}) {
    const auto result = quantize(form + ".pt", {"--form", form, "--json", "-"});
    ASSERT_EQ(result.code, 0) << form << result.err;
    EXPECT_EQ(result.json().at("form"), form);
    EXPECT_EQ(result.json().at("samples"), 24);
    EXPECT_GE(result.json().at("quantized_operators"), 4);
    const auto evaluation = evaluate(form + ".pt");
    EXPECT_EQ(keys(evaluation), (std::set<std::string>{"metric", "value", "samples", "seconds", "agreement"}));
    EXPECT_EQ(evaluation.at("samples"), 24);
    EXPECT_GE(evaluation.at("value").get<double>(), 87.0) << form;
    EXPECT_EQ(evaluation.at("value"), evaluation.at("agreement"));
  }
}

TEST_F(Program, SummaryAndStoredReportSayWhatHappened) {
  const auto result = quantize("summary.pt", {"--ignore-name", "stem/conv2d/0", "--form", "reference"});
  ASSERT_EQ(result.code, 0) << result.err;
  EXPECT_NE(result.out.find("why float"), std::string::npos);
  EXPECT_NE(result.out.find("ignored"), std::string::npos) << result.out;
  const auto report = testing::tsquant({"report", path("summary.pt")});
  // The stored report is the printed one without the times.
  const auto time = result.out.find("\ntime: ") + 1;
  EXPECT_EQ(result.out.substr(0, time), report.out.substr(0, time));
  EXPECT_EQ(report.out.find("\ntime: "), std::string::npos);
  const auto stored = testing::tsquant({"report", path("summary.pt"), "--json", "-"}).json();
  int ignored = 0;
  for (const auto& node : stored.at("nodes")) ignored += node.at("code") == "ignored";
  EXPECT_EQ(ignored, 1);
}

TEST_F(Program, OptionsDoWhatTheySay) {
  const auto plain = Report::from_json((quantize("o.pt"), read_extra_file(path("o.pt"), "tsquant_report.json")));
  const auto with = [&](const std::vector<std::string>& more) {
    const auto result = quantize("o.pt", more);
    EXPECT_EQ(result.code, 0) << more.front() << result.err;
    return Report::from_json(read_extra_file(path("o.pt"), "tsquant_report.json"));
  };
  const auto zero_points = [](const Report& report) {
    std::set<int64_t> values;
    for (const auto& quantizer : report.quantizers)
      values.insert(quantizer.zero_point.begin(), quantizer.zero_point.end());
    return values;
  };
  EXPECT_EQ(with({"--subset-size", "5"}).samples, 5);
  EXPECT_EQ(with({"--batch-size", "8"}).samples, 3);
  EXPECT_EQ(with({"--limit", "4"}).samples, 4);
  EXPECT_EQ(zero_points(plain).size(), 1u);
  EXPECT_GT(zero_points(with({"--preset", "mixed"})).size(), 1u);
  EXPECT_GT(with({"--quantize-outputs"}).quantizers.size(), plain.quantizers.size());
  EXPECT_LT(with({"--ignore-type", "linear"}).quantized_count(), plain.quantized_count());
  EXPECT_LT(with({"--ignore-pattern", "block/.*"}).quantized_count(), plain.quantized_count());
  EXPECT_GT(with({"--no-fold"}).quantized_bytes, plain.quantized_bytes);
  EXPECT_EQ(with({"--form", "lowered", "--engine", "tsquant"}).engine, "tsquant");
  EXPECT_NE(with({"--scale", "2"}).quantizers.front().scale, plain.quantizers.front().scale);
  EXPECT_NE(with({"--normalize", "1,1,1:2,2,2"}).quantizers.front().scale, plain.quantizers.front().scale);
  EXPECT_NE(with({"--statistics", "batch", "--batch-size", "8"}).quantizers.front().scale,
            with({"--statistics", "item", "--batch-size", "8"}).quantizers.front().scale);
}

TEST_F(Program, BiasCorrectionChangesTheFile) {
  ASSERT_EQ(quantize("fast.pt", {"--form", "reference"}).code, 0);
  ASSERT_EQ(quantize("none.pt", {"--form", "reference", "--bias-correction", "none"}).code, 0);
  const auto result = testing::tsquant(
      {"compare", path("fast.pt"), path("none.pt"), "--data", path("data.pt"), "--inputs", "images", "--json", "-"});
  ASSERT_EQ(result.code, 0) << result.err;
  EXPECT_GT(result.json().at("outputs").at(0).at("max_error").get<double>(), 0);
}

TEST_F(Program, RunningTwiceGivesTheSameResult) {
  ASSERT_EQ(quantize("first.pt", {"--json", path("first.json")}).code, 0);
  ASSERT_EQ(quantize("second.pt", {"--json", path("second.json")}).code, 0);
  auto first = json::parse(bytes_of(path("first.json"))), second = json::parse(bytes_of(path("second.json")));
  EXPECT_TRUE(bytes_of(path("first.pt")) == bytes_of(path("second.pt"))) << "the files differ";
  for (const char* times : {"phases", "rewrites"}) {
    first.erase(times);
    second.erase(times);
  }
  EXPECT_EQ(first, second);
}

TEST_F(Program, AnnotateWritesTheAgreedSchema) {
  const auto result = testing::tsquant({"annotate", path("model.pt"), "--input-shape", "1,3,16,16", "--json", "-"});
  ASSERT_EQ(result.code, 0) << result.err;
  const auto placement = result.json();
  EXPECT_EQ(keys(placement),
            (std::set<std::string>{"nodes", "edges", "quantizers", "unified_scale_groups", "refusals"}));
  EXPECT_EQ(keys(placement.at("nodes").at(0)), (std::set<std::string>{"name", "fx_name", "kind", "type", "metatype"}));
  EXPECT_EQ(keys(placement.at("edges").at(0)),
            (std::set<std::string>{"producer", "consumer", "input_port", "quantizer"}));
  EXPECT_EQ(keys(placement.at("quantizers").at(0)),
            (std::set<std::string>{"id", "kind", "node", "input_port", "num_bits", "mode", "signedness_to_force",
                                   "per_channel", "ch_axis", "narrow_range", "half_range", "unified_scale_group",
                                   "quantized_nodes", "reason"}));
  std::set<std::string> edges;
  std::set<int64_t> ids;
  for (const auto& q : placement.at("quantizers")) ids.insert(q.at("id").get<int64_t>());
  for (const auto& edge : placement.at("edges")) {
    EXPECT_TRUE(ids.count(edge.at("quantizer").get<int64_t>()));
    edges.insert(edge.at("producer").get<std::string>() + " > " + edge.at("consumer").get<std::string>() + " " +
                 std::to_string(edge.at("input_port").get<int>()));
  }
  EXPECT_TRUE(edges.count("x > stem/conv2d/0 0"));
  EXPECT_TRUE(edges.count("stem.weight > stem/conv2d/0 1"));
  EXPECT_TRUE(edges.count("weight > /linear/0 1"));
  // One quantizer after the first relu feeds the convolution and the addition.
  EXPECT_TRUE(edges.count("/relu/0 > block/conv2d/0 0"));
  EXPECT_TRUE(edges.count("/relu/0 > /add/0 1"));
  EXPECT_EQ(edges.size(), placement.at("edges").size());
  const auto outputs = testing::tsquant(
      {"annotate", path("model.pt"), "--input-shape", "1,3,16,16", "--quantize-outputs", "--json", "-"});
  EXPECT_NE(outputs.out.find("\"consumer\": \"output\""), std::string::npos);
  EXPECT_EQ(result.out.find("\"consumer\": \"output\""), std::string::npos);
}

TEST_F(Program, InputsMayBeNumbersAndSeveral) {
  const std::string model = path("two.pt");
  testing::define(
      "def forward(self, x, rate: int, scale: float, flip: bool):\n"
      "  y = torch.linear(x, self.w) * scale\n"
      "  if flip:\n"
      "    y = -y\n"
      "  return y + rate\n",
      {{"w", at::randn({4, 8})}})
      .save(model);
  const auto result = testing::tsquant({"annotate", model, "--input-shape", "2,8", "--input-shape", "=16000",
                                        "--input-shape", "=0.5", "--input-shape", "=true", "--json", "-"});
  ASSERT_EQ(result.code, 0) << result.err;
  EXPECT_NE(result.out.find("/linear/0"), std::string::npos);
  EXPECT_EQ(testing::tsquant({"annotate", model, "--input-shape", "2,8", "--json", "-"}).code, 5);
}

TEST_F(Program, InspectShowsNodesRulesDrawingsAndKernels) {
  const auto nodes = testing::tsquant({"inspect", path("model.pt"), "--input-shape", "1,3,16,16", "--json", "-"});
  ASSERT_EQ(nodes.code, 0) << nodes.err;
  const auto first = nodes.json().at("nodes").at(0);
  EXPECT_EQ(first.at("name"), "stem/conv2d/0");
  EXPECT_EQ(first.at("shape"), (std::vector<int64_t>{1, 8, 16, 16}));
  EXPECT_EQ(first.at("dtype"), "Float");
  EXPECT_EQ(first.at("quantized"), true);
  const auto rules = testing::tsquant(
      {"inspect", path("model.pt"), "--input-shape", "1,3,16,16", "--rules", "--ignore-type", "conv2d"});
  EXPECT_NE(rules.out.find("--ignore-type conv2d        2"), std::string::npos) << rules.out;
  const auto dot = testing::tsquant({"inspect", path("model.pt"), "--dot", "-"});
  EXPECT_EQ(dot.out.find("digraph"), 0u) << dot.out << dot.err;
  ASSERT_EQ(quantize("kernels.pt", {"--form", "lowered", "--engine", "tsquant"}).code, 0);
  const auto kernels = testing::tsquant({"inspect", path("kernels.pt")});
  EXPECT_EQ(kernels.code, 0) << kernels.err;
  EXPECT_NE(kernels.out.find("tsquant::conv"), std::string::npos) << kernels.out;
}

TEST_F(Program, CompareNamesTheWorstLayersOfEveryForm) {
  for (const std::string form : {"reference", "decomposed", "lowered"}) {
    ASSERT_EQ(quantize("compare.pt", {"--form", form}).code, 0);
    const auto result = testing::tsquant({"compare", path("model.pt"), path("compare.pt"), "--data", path("data.pt"),
                                          "--inputs", "images", "--json", "-"});
    ASSERT_EQ(result.code, 0) << result.err;
    const auto comparison = result.json();
    EXPECT_EQ(keys(comparison), (std::set<std::string>{"samples", "unmatched", "outputs", "layers", "suggestions"}));
    EXPECT_EQ(comparison.at("samples"), 16);
    ASSERT_FALSE(comparison.at("layers").empty()) << form;
    double last = INFINITY;
    for (const auto& layer : comparison.at("layers")) {
      EXPECT_LE(layer.at("added").get<double>(), last);
      last = layer.at("added").get<double>();
      // An 8-bit layer is close to its float counterpart; a wrong pairing is not.
      if (layer.at("sqnr_db").is_number()) {
        EXPECT_GT(layer.at("sqnr_db").get<double>(), 15) << form << layer;
      }
    }
    EXPECT_GT(comparison.at("outputs").at(0).at("sqnr_db").get<double>(), 15);
    EXPECT_EQ(comparison.at("suggestions").at(0),
              "--ignore-name " + comparison.at("layers").at(0).at("name").get<std::string>());
  }
}

TEST_F(Program, BenchmarkSchema) {
  const auto result = testing::tsquant({"benchmark", path("model.pt"), path("model.pt"), "--input-shape", "1,3,16,16",
                                        "--threads", "1", "--rounds", "30", "--optimize", "--json", "-"});
  ASSERT_EQ(result.code, 0) << result.err;
  const auto results = result.json().at("results");
  ASSERT_EQ(results.size(), 2u);
  for (const std::string key : {"model", "median_ms", "min_ms", "ratio_to_first"})
    EXPECT_TRUE(results[1].contains(key));
  EXPECT_EQ(results[0].at("ratio_to_first"), 1.0);
  EXPECT_EQ(results[0].at("optimized"), true);
  EXPECT_GT(results[1].at("median_ms").get<double>(), 0);
}

TEST_F(Program, BenchmarkProfileSaysWhatEveryOperatorCosts) {
  const auto lowered = path("profiled.pt");
  ASSERT_EQ(quantize("profiled.pt", {"--form", "lowered"}).code, 0);
  const std::vector<std::string> words{"benchmark", path("model.pt"), lowered, "--input-shape",
                                       "1,3,16,16", "--rounds",       "2",     "--profile"};
  const auto table = testing::tsquant(words);
  ASSERT_EQ(table.code, 0) << table.err;
  EXPECT_NE(table.out.find("model.pt: "), std::string::npos) << table.out;
  EXPECT_NE(table.out.find("0.0 % with codes, 100.0 % that stayed float"), std::string::npos) << table.out;
  auto with_json = words;
  with_json.insert(with_json.end(), {"--json", "-"});
  const auto results = testing::tsquant(with_json).json().at("results");
  const auto quantized = [](const nlohmann::json& result) {
    int count = 0;
    for (const auto& time : result.at("operators")) count += time.at("quantized").get<bool>() ? 1 : 0;
    return count;
  };
  EXPECT_EQ(quantized(results[0]), 0);
  EXPECT_GT(quantized(results[1]), 0);
  int limited = 0;
  for (const auto& time : results[1].at("operators")) {
    if (time.at("name").get<std::string>().rfind("tsquant::conv", 0) != 0) continue;
    ++limited;
    EXPECT_GT(time.at("limit_ms").get<double>(), 0) << time;
  }
  EXPECT_GT(limited, 0);
  EXPECT_NE(table.out.find("of limit"), std::string::npos) << table.out;
}

TEST_F(Program, BenchmarkExplainComparesEveryOperatorWithTheTableOfCosts) {
  const auto lowered = path("explained.pt");
  ASSERT_EQ(quantize("explained.pt", {"--form", "lowered"}).code, 0);
  const std::vector<std::string> words{"benchmark", lowered, "--input-shape", "1,3,16,16",
                                       "--rounds",  "2",     "--explain"};
  const auto table = testing::tsquant(words);
  ASSERT_EQ(table.code, 0) << table.err;
  EXPECT_NE(table.out.find("of the table of costs"), std::string::npos) << table.out;
  EXPECT_NE(table.out.find("measured/predicted"), std::string::npos) << table.out;
  auto with_json = words;
  with_json.insert(with_json.end(), {"--json", "-"});
  const auto result = testing::tsquant(with_json).json().at("results")[0];
  EXPECT_FALSE(result.at("rates").get<std::string>().empty());
  int layers = 0;
  for (const auto& time : result.at("operators")) {
    if (time.at("name").get<std::string>().rfind("tsquant::conv", 0) != 0) continue;
    ++layers;
    EXPECT_GT(time.at("thousand_multiply_adds").get<double>(), 0) << time;
    EXPECT_GT(time.at("predicted_ms").get<double>(), 0) << time;
  }
  EXPECT_GT(layers, 0);
}

/// The library's default is another.
TEST_F(Program, HelpShowsTheFormThatTheProgramWrites) {
  const std::string help = testing::tsquant({"compress", "--help"}).out;
  const size_t begin = help.find("--form");
  ASSERT_NE(begin, std::string::npos) << help;
  const std::string line = help.substr(begin, help.find('\n', begin) - begin);
  EXPECT_NE(line.find("}=lowered"), std::string::npos) << line;
}

TEST_F(Program, ExitCodes) {
  EXPECT_EQ(testing::tsquant({"--help"}).code, 0);
  EXPECT_EQ(testing::tsquant({"quantize", "--help"}).code, 0);
  EXPECT_EQ(testing::tsquant({}).code, 2);
  EXPECT_EQ(testing::tsquant({"quantise"}).code, 2);
  EXPECT_EQ(quantize("e.pt", {"--no-such-option"}).code, 2);
  EXPECT_EQ(quantize("e.pt", {"--form", "wrong"}).code, 2);
  EXPECT_EQ(quantize("e.pt", {"--subset-size", "0"}).code, 2);
  EXPECT_EQ(testing::tsquant({"annotate", path("model.pt"), "--input-shape", "1,x"}).code, 2);
  EXPECT_EQ(testing::tsquant({"inspect", path("missing.pt")}).code, 3);
  EXPECT_EQ(quantize("e.pt", {"--ignore-pattern", ".*"}).code, 4);
  EXPECT_EQ(quantize("e.pt", {"--form", "lowered", "--engine", "cuda"}).code, 4);
  EXPECT_EQ(quantize("e.pt", {"--inputs", "labels"}).code, 5);
  EXPECT_EQ(quantize("no/such/folder/e.pt").code, 7);
  for (const auto& name : files_in(folder_)) EXPECT_NE(name.substr(0, 4), "e.pt");
}

TEST_F(Program, RuleThatMatchesNothingOffersNames) {
  const auto strict = quantize("rule.pt", {"--ignore-name", "stem/conv2d/1"});
  EXPECT_EQ(strict.code, 2);
  EXPECT_NE(strict.err.find("stem/conv2d/0"), std::string::npos) << strict.err;
  EXPECT_EQ(quantize("rule.pt", {"--ignore-name", "stem/conv2d/1", "--lenient-rules"}).code, 0);
}

TEST(LargeModel, FileIsAQuarterAndHoldsNoFloatWeight) {
  const std::string folder = testing::temp_dir();
  testing::write_large_model(folder);
  for (const std::string form : {"reference", "decomposed", "lowered"}) {
    const std::string output = folder + "/" + form + ".pt";
    const auto result = testing::tsquant({"quantize", folder + "/large.pt", "-o", output, "--data", folder + "/rows.pt",
                                          "--inputs", "images", "--subset-size", "8", "--form", form});
    ASSERT_EQ(result.code, 0) << result.err;
    const double ratio = static_cast<double>(bytes_of(output).size()) / bytes_of(folder + "/large.pt").size();
    EXPECT_LE(ratio, 0.27) << form;
  }
}

TEST(LargeModel, InterruptLeavesTheOldFile) {
  const std::string folder = testing::temp_dir();
  testing::write_large_model(folder);
  std::ofstream(folder + "/out.pt") << "old content";
  const auto before = files_in(folder);
  // 20,000 samples take seconds, so the run is still under way.
  const auto result =
      testing::tsquant_interrupted({"quantize", folder + "/large.pt", "-o", folder + "/out.pt", "--data",
                                    folder + "/rows.pt", "--inputs", "images", "--subset-size", "20000"},
                                   0.4);
  EXPECT_EQ(result.code, 7) << result.out << result.err;
  EXPECT_NE(result.err.find("cancelled"), std::string::npos) << result.err;
  EXPECT_EQ(bytes_of(folder + "/out.pt"), "old content");
  EXPECT_EQ(files_in(folder), before);
}

TEST(Demo, QuickRunPrintsThreeModels) {
  const std::string folder = testing::temp_dir();
  const auto result = testing::tsquant({"demo", "--quick", "--dir", folder, "--json", "-"});
  ASSERT_EQ(result.code, 0) << result.err;
  const auto rows = result.json().at("results");
  ASSERT_EQ(rows.size(), 3u);
  EXPECT_GT(rows[0].at("top1").get<double>(), 50);
  for (int i : {1, 2}) {
    EXPECT_GT(rows[i].at("agreement").get<double>(), 90);
    EXPECT_LT(rows[i].at("bytes").get<double>(), 0.5 * rows[0].at("bytes").get<double>());
  }
}

TEST(Demo, TrainingBringsFourBitsBack) {
  const std::string folder = testing::temp_dir();
  const auto result = testing::tsquant({"demo", "--quick", "--qat", "--dir", folder, "--json", "-"});
  ASSERT_EQ(result.code, 0) << result.err;
  std::map<std::string, double> top1;
  const auto results = result.json().at("results");
  for (const auto& row : results) top1[row.at("model")] = row.at("top1");
  EXPECT_LT(top1.at("post_training"), top1.at("fp32") - 3);
  EXPECT_GT(top1.at("trained"), top1.at("fp32") - 0.5);
  for (const char* name : {"post_training.pt", "trained.pt", "train.pt"}) {
    EXPECT_TRUE(std::filesystem::exists(folder + "/" + name)) << name;
  }
  EXPECT_EQ(testing::tsquant({"demo", "--qat", "--outlier", "200"}).code, 2);
}

}  // namespace
}  // namespace tsquant

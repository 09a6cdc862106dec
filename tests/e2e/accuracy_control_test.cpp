#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "e2e/program.h"
#include "support/support.h"

namespace tsquant {
namespace {

using nlohmann::json;
using testing::Outcome;
using Strings = std::vector<std::string>;

/// The demo network, damaged by one channel that is 200 times as large as the others, and what the demo made of it.
class DamagedDemo : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = testing::temp_dir();
    demo_ = testing::tsquant({"demo", "--quick", "--outlier", "200", "--dir", folder_, "--json", "-"});
  }
  static std::string path(const std::string& name) { return folder_ + "/" + name; }
  static Outcome quantize(const std::string& output, const Strings& more) {
    Strings arguments{"quantize", path("fp32.pt"), "-o",          path(output), "--data", path("calibration.pt"),
                      "--inputs", "images",        "--normalize", "0.5:0.25",   "--form", "reference"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return testing::tsquant(arguments);
  }
  /// With labels, measured on 500 pictures that neither training nor calibration saw.
  static Outcome limited(const std::string& output, const Strings& more) {
    Strings arguments{"--validation-data", path("validation.pt"), "--validation-labels", "labels", "--json", "-"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return quantize(output, arguments);
  }
  static double top1(const std::string& model, const std::string& data) {
    const auto result = testing::tsquant({"evaluate", path(model), "--data", path(data), "--inputs", "images",
                                          "--normalize", "0.5:0.25", "--labels", "labels", "--json", "-"});
    return result.json().at("value");
  }
  static std::string folder_;
  static Outcome demo_;
};
std::string DamagedDemo::folder_;
Outcome DamagedDemo::demo_;

TEST_F(DamagedDemo, TheRightLayerIsRevertedAndTheDropMet) {
  ASSERT_EQ(demo_.code, 0) << demo_.err;
  EXPECT_NE(demo_.err.find("returned to float: [\"conv2/conv2d/0\"]"), std::string::npos) << demo_.err;
  std::map<std::string, double> top1;
  const auto results = demo_.json();
  for (const auto& row : results.at("results")) top1[row.at("model")] = row.at("top1");
  EXPECT_LT(top1.at("reference"), top1.at("fp32") - 5) << "the planted channel does its damage";
  EXPECT_GT(top1.at("within_limit"), top1.at("fp32") - 1) << "on pictures that the search did not see";
  std::ifstream file(path("accuracy.json"));
  const auto control = json::parse(file).at("accuracy_control");
  EXPECT_EQ(control.at("limit_met"), true);
  EXPECT_LE(control.at("drop").get<double>(), 0.01 + 1e-9);
  EXPECT_GT(control.at("seconds").at("total").get<double>(), 0);
}

TEST_F(DamagedDemo, AMissedLimitWritesTheBestModelAndExitsWithSix) {
  const auto result = limited("missed.pt", {"--max-drop", "0", "--max-iterations", "0"});
  EXPECT_EQ(result.code, 6);
  EXPECT_NE(result.err.find("more than allowed"), std::string::npos) << result.err;
  EXPECT_NE(result.err.find("the best model found was written; allow a larger drop or try --tune"), std::string::npos)
      << result.err;
  const auto control = result.json().at("accuracy_control");
  EXPECT_EQ(control.at("limit_met"), false);
  EXPECT_EQ(result.json().at("options").at("accuracy_limit_met"), "false");
  EXPECT_NEAR(top1("missed.pt", "validation.pt") / 100, control.at("metric_result").get<double>(), 1e-9);
  EXPECT_NEAR(top1("fp32.pt", "validation.pt") / 100, control.at("metric_float").get<double>(), 1e-9);
}

TEST_F(DamagedDemo, DropTypesAndMetrics) {
  const double before = top1("fp32.pt", "validation.pt") / 100;
  const auto absolute = limited("a.pt", {"--max-drop", "1", "--drop-type", "absolute"}).json().at("accuracy_control");
  const auto relative = limited("r.pt", {"--max-drop", "1", "--drop-type", "relative"}).json().at("accuracy_control");
  EXPECT_NEAR(relative.at("drop").get<double>(), absolute.at("drop").get<double>() / before, 1e-9);
  // Without labels: predictions that equal the float model's. By default the calibration data are used.
  const auto agreement = quantize("g.pt", {"--max-drop", "1", "--validation-metric", "agreement", "--json", "-"});
  ASSERT_EQ(agreement.code, 0) << agreement.err;
  EXPECT_EQ(agreement.json().at("accuracy_control").at("metric_float"), 1.0);
  EXPECT_LT(agreement.json().at("accuracy_control").at("metric_result").get<double>(), 0.95);
}

TEST_F(DamagedDemo, TheOptionsOfTheSearchAreUsed) {
  // Ten batches: fewer and larger ones, ranked by two of them in two threads.
  const auto result =
      limited("o.pt", {"--max-drop", "0.01", "--validation-batch-size", "50", "--ranking-subset-size", "2",
                       "--ranking-workers", "2", "--restore-mode", "only_activations", "--max-iterations", "1",
                       "--intermediate-dir", path("steps"), "--validation-limit", "300"});
  ASSERT_TRUE(result.code == 0 || result.code == 6) << result.err;
  const auto control = result.json().at("accuracy_control");
  EXPECT_EQ(control.at("ranking_workers"), 2);
  ASSERT_EQ(control.at("steps").size(), 1u);
  for (const auto& place : control.at("steps")[0].at("quantizers")) {
    EXPECT_EQ(place.get<std::string>().find("input 1"), std::string::npos) << "a weight was returned to float";
  }
  const double hits = control.at("metric_float").get<double>() * 300;
  EXPECT_NEAR(hits, std::round(hits), 1e-6) << "a share of 300 samples";
  EXPECT_TRUE(std::filesystem::exists(path("steps/intermediate_model.pt")));
  EXPECT_TRUE(std::filesystem::exists(path("steps/best_model.pt")));
  const auto calibrations = [](const Outcome& outcome) {
    return outcome.json().at("accuracy_control").at("quantizations").get<int64_t>();
  };
  const Strings stop{"--max-drop", "0", "--max-iterations", "0", "--validation-limit", "100"};
  const auto with = [&](const std::string& option) {
    Strings all = stop;
    all.push_back(option);
    return all;
  };
  EXPECT_EQ(calibrations(limited("m.pt", stop)), 1);
  EXPECT_EQ(calibrations(limited("m.pt", with("--convert-to-mixed"))), 2);
  const auto tuned = limited("m.pt", with("--tune"));
  EXPECT_GE(calibrations(tuned), 16) << "every value of the grids";
  EXPECT_EQ(tuned.err.find("try --tune"), std::string::npos) << tuned.err;
  const auto text = quantize(
      "t.pt", {"--max-drop", "1", "--validation-data", path("validation.pt"), "--validation-labels", "labels"});
  EXPECT_NE(text.out.find("limit met"), std::string::npos) << text.out;
}

TEST_F(DamagedDemo, ALimitInAConfiguration) {
  std::ofstream(path("limit.json")) << R"({"accuracy_control": {"max_drop": 0.9, "drop_type": "relative"},
                                           "compression": {"algorithm": "quantization", "form": "reference"}})";
  const auto with = [](const Strings& more) {
    Strings arguments{"quantize",
                      path("fp32.pt"),
                      "-o",
                      path("c.pt"),
                      "--data",
                      path("calibration.pt"),
                      "--inputs",
                      "images",
                      "--normalize",
                      "0.5:0.25",
                      "--config",
                      path("limit.json"),
                      "--validation-data",
                      path("validation.pt"),
                      "--validation-labels",
                      "labels",
                      "--json",
                      "-"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return testing::tsquant(arguments);
  };
  const auto result = with({});
  ASSERT_EQ(result.code, 0) << result.err;
  EXPECT_EQ(result.json().at("accuracy_control").at("limit_met"), true);
  const auto twice = with({"--max-drop", "0.1"});
  EXPECT_EQ(twice.code, 2);
  EXPECT_NE(twice.err.find("accuracy_control in the configuration"), std::string::npos) << twice.err;
}

TEST_F(DamagedDemo, WrongOptionsAreUsageErrors) {
  const auto no_limit = quantize("x.pt", {"--validation-labels", "labels"});
  EXPECT_EQ(no_limit.code, 2);
  EXPECT_NE(no_limit.err.find("give --max-drop"), std::string::npos) << no_limit.err;
  const auto alone = quantize("x.pt", {"--drop-type", "relative"});
  EXPECT_EQ(alone.code, 2);
  EXPECT_NE(alone.err.find("--max-drop"), std::string::npos) << alone.err;
  EXPECT_EQ(limited("x.pt", {"--max-drop", "0.01", "--drop-type", "huge"}).code, 2);
  EXPECT_EQ(limited("x.pt", {"--max-drop", "0.01", "--validation-metric", "bleu"}).code, 2);
  EXPECT_EQ(limited("x.pt", {"--max-drop", "0.01", "--restore-mode", "none"}).code, 2);
  EXPECT_EQ(limited("x.pt", {"--max-drop", "0.01", "--ranking-workers", "0"}).code, 2);
  const auto negative = limited("x.pt", {"--max-drop", "-1"});
  EXPECT_EQ(negative.code, 2);
  EXPECT_NE(negative.err.find("--max-drop: -1 is not allowed"), std::string::npos) << negative.err;
  const auto unlabelled = quantize("x.pt", {"--max-drop", "0.01"});
  EXPECT_EQ(unlabelled.code, 5);
  EXPECT_NE(unlabelled.err.find("top1 needs labels"), std::string::npos) << unlabelled.err;
  const auto missing = quantize("x.pt", {"--max-drop", "0.01", "--validation-data", path("nowhere.pt")});
  EXPECT_EQ(missing.code, 5);
  EXPECT_NE(missing.err.find("check the path given to --validation-data"), std::string::npos) << missing.err;
  EXPECT_FALSE(std::filesystem::exists(path("x.pt")));
}

}  // namespace
}  // namespace tsquant

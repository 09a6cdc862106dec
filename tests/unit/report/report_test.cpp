#include "tsquant/report.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "tsquant/error.h"

namespace tsquant {
namespace {

Report example() {
  Report report;
  report.version = "0.1.0";
  report.form = "lowered";
  report.engine = "onednn";
  report.samples = 12;
  report.float_bytes = 4000000;
  report.quantized_bytes = 1000000;
  report.options["subset_size"] = "300";
  report.warnings = {"asked for 300 samples, got 12"};
  report.phases = {{"calibrate", 1.25, 1500000000}};
  report.rewrites = {{"fold_batch_norm", "float", true, 0.5}};
  report.nodes = {
      {"conv/conv2d/0", "conv2d", "conv2d", true, "quantized", "reads quantized tensors", "quantized::conv2d"},
      {"conv/conv2d/1", "conv2d_1", "conv2d", false, "ignored", "named by a rule", ""},
      {"conv/conv2d/2", "conv2d_2", "conv2d", false, "fp32_consumer", "its reader is in float", ""},
      {"flatten/0", "flatten", "flatten", false, "passes_codes", "moves", ""}};
  QuantizerRecord quantizer;
  quantizer.id = 7;
  quantizer.kind = "weight";
  quantizer.node = "conv/conv2d/0";
  quantizer.input_port = 1;
  quantizer.dtype = "qint8";
  quantizer.quant_min = -127;
  quantizer.quant_max = 127;
  quantizer.scale = {0.5, 0.25};
  quantizer.zero_point = {0, 0};
  quantizer.float_zero_point = {0.5, -3.25};
  quantizer.min = -3;
  quantizer.max = 4;
  report.quantizers = {quantizer};
  return report;
}

TEST(Report, WhatDidNotRunAndWhatOnlyConnectsDoesNotCount) {
  Report report = example();
  const std::string before = report.summary();
  EXPECT_NE(before.find("1 of 4 operators quantized, 0 fused, 1 move codes, 2 in float\n"), std::string::npos)
      << before;
  EXPECT_EQ(before.find("more operators"), std::string::npos);
  report.nodes.push_back({"if/0", "if", "if", false, "control_flow", "hands on", ""});
  report.nodes.push_back({"linear/0", "linear", "linear", false, "not_reached", "no sample", ""});
  const std::string after = report.summary();
  EXPECT_NE(after.find("1 of 4 operators quantized, 0 fused, 1 move codes, 2 in float\n"
                       "1 more operators stand in branches that no sample took; they do not count\n"),
            std::string::npos)
      << after;
  EXPECT_EQ(after.find("linear"), std::string::npos) << after;
}

TEST(Report, SurvivesJson) {
  const Report report = example(), copy = Report::from_json(report.to_json());
  EXPECT_EQ(copy.to_json(), report.to_json());
  EXPECT_EQ(copy.nodes.at(1).reason, "named by a rule");
  EXPECT_EQ(copy.quantizers.at(0).scale, (std::vector<double>{0.5, 0.25}));
  EXPECT_EQ(copy.phases.at(0).peak_bytes, 1500000000);
  EXPECT_EQ(copy.rewrites.at(0).name, "fold_batch_norm");
  EXPECT_EQ(copy.rewrites.at(0).phase, "float");
  EXPECT_TRUE(copy.rewrites.at(0).changed);
  EXPECT_EQ(copy.rewrites.at(0).seconds, 0.5);
  EXPECT_EQ(copy.options.at("subset_size"), "300");
  EXPECT_EQ(copy.engine, "onednn");
}

TEST(Report, OfAnEarlierVersionHasNoRewrites) {
  std::string text = example().to_json();
  const size_t begin = text.find("\"rewrites\""), end = text.find("\"nodes\"");
  ASSERT_LT(begin, end);
  text.erase(begin, end - begin);
  EXPECT_TRUE(Report::from_json(text).rewrites.empty());
}

TEST(Report, ShortFormLeavesOutChannelLists) {
  Report report = example();
  QuantizerRecord activation = report.quantizers[0];
  activation.scale = {0.125};
  activation.zero_point = {7};
  report.quantizers.push_back(activation);
  report.quantizers[0].scale.assign(1000, 0.1);
  const std::string text = report.to_json(/*per_channel=*/false);
  EXPECT_LT(text.size(), 2 * example().to_json().size());
  const Report copy = Report::from_json(text);
  EXPECT_TRUE(copy.quantizers.at(0).scale.empty());
  EXPECT_EQ(copy.quantizers.at(1).scale, (std::vector<double>{0.125}));
  EXPECT_EQ(copy.quantizers.at(1).zero_point, (std::vector<int64_t>{7}));
  EXPECT_EQ(copy.quantizers.at(0).min, -3);
  EXPECT_TRUE(copy.phases.empty());
}

TEST(Report, InfiniteNumbersAreValidJson) {
  Report report = example();
  report.quantizers[0].max = std::numeric_limits<double>::infinity();
  EXPECT_TRUE(std::isnan(Report::from_json(report.to_json()).quantizers.at(0).max));
}

TEST(Report, DamagedJsonIsAnError) {
  EXPECT_THROW(Report::from_json("{"), Error);
  EXPECT_THROW(Report::from_json("{\"version\": \"1\"}"), Error);
}

TEST(Report, SummaryCountsByTypeAndSaysWhy) {
  const std::string text = example().summary();
  EXPECT_EQ(example().quantized_count(), 1);
  EXPECT_NE(text.find("1 of 4 operators quantized, 0 fused, 1 move codes, 2 in float"), std::string::npos) << text;
  EXPECT_NE(text.find("1 x ignored: named by a rule"), std::string::npos) << text;
  EXPECT_NE(text.find("1 x fp32_consumer: its reader is in float"), std::string::npos) << text;
  EXPECT_NE(text.find("4.00 MB -> 1.00 MB (0.250x)"), std::string::npos) << text;
  EXPECT_NE(text.find("quantized::conv2d"), std::string::npos) << text;
  EXPECT_NE(text.find("engine onednn"), std::string::npos) << text;
  EXPECT_NE(text.find("warning: asked for 300 samples, got 12"), std::string::npos) << text;
  // One line per operator type: total 3, quantized 1, fused 0, moved 0, float 2.
  EXPECT_NE(text.find("conv2d        3          1      0            0      2"), std::string::npos) << text;
}

}  // namespace
}  // namespace tsquant

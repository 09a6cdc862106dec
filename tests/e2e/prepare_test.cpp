// `prepare` and `convert`: the two steps of calibration and training elsewhere.
#include <gtest/gtest.h>
#include <torch/script.h>

#include <fstream>

#include "e2e/program.h"
#include "support/support.h"
#include "tsquant/prepare_pt2e.h"

namespace tsquant {
namespace {

using testing::Outcome;
using Strings = std::vector<std::string>;

class PrepareCommand : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = testing::temp_dir();
    testing::write_small_model(folder_);
  }
  static std::string path(const std::string& name) { return folder_ + "/" + name; }
  static Outcome prepare(const Strings& more) {
    Strings arguments{"prepare", path("model.pt"), "-o",       path("prepared.pt"),
                      "--data",  path("data.pt"),  "--inputs", "images"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return testing::tsquant(arguments);
  }
  static Outcome convert(const Strings& more) {
    Strings arguments{"convert", path("prepared.pt"), "-o", path("out.pt")};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return testing::tsquant(arguments);
  }
  static nlohmann::json quantizers(const Strings& options) {
    Strings with_data = options;
    with_data.insert(with_data.end(), {"--calibrate", "24"});
    const Outcome first = prepare(with_data);
    EXPECT_EQ(first.code, 0) << first.err;
    const Outcome second = convert({"--form", "reference", "--json", "-"});
    EXPECT_EQ(second.code, 0) << second.err;
    return second.code == 0 ? second.json().at("quantizers") : nlohmann::json::array();
  }
  static std::string folder_;
};
std::string PrepareCommand::folder_;

TEST_F(PrepareCommand, WhatIsCalibratedHereIsWhatQuantizeMakes) {
  const auto two_steps = quantizers({"--quantizer", "x86_inductor"});
  const Outcome one_step =
      testing::tsquant({"quantize", path("model.pt"), "-o", path("one.pt"), "--data", path("data.pt"), "--inputs",
                        "images", "--quantizer", "x86_inductor", "--bias-correction", "none", "--json", "-"});
  ASSERT_EQ(one_step.code, 0) << one_step.err;
  const auto expected = one_step.json().at("quantizers");
  ASSERT_EQ(two_steps.size(), expected.size());
  for (size_t i = 0; i < expected.size(); ++i) {
    EXPECT_EQ(two_steps[i].at("node"), expected[i].at("node"));
    // LibTorch's convolutions round differently from the calibrator's.
    EXPECT_NEAR(two_steps[i].at("scale")[0].get<double>(), expected[i].at("scale")[0].get<double>(),
                1e-5 * expected[i].at("scale")[0].get<double>());
  }
}

TEST_F(PrepareCommand, EveryFormCanBeWritten) {
  ASSERT_EQ(prepare({"--calibrate", "24"}).code, 0);
  for (const char* form : {"reference", "decomposed", "fake_quantize", "lowered"}) {
    const Outcome result = convert({"--form", form});
    EXPECT_EQ(result.code, 0) << result.err;
    const Outcome same = testing::tsquant({"evaluate", path("out.pt"), "--data", path("data.pt"), "--inputs", "images",
                                           "--labels", "labels", "--metric", "top1", "--json", "-"});
    ASSERT_EQ(same.code, 0) << same.err;
    EXPECT_GE(same.json().at("value").get<double>(), 0.85) << form;
  }
}

TEST_F(PrepareCommand, OperatorsAreWrittenOutInIntegers) {
  ASSERT_EQ(prepare({"--calibrate", "24"}).code, 0);
  const Outcome result = convert({"--form", "reference", "--use-reference-representation"});
  ASSERT_EQ(result.code, 0) << result.err;
  const std::string graph = torch::jit::load(path("out.pt")).get_method("forward").graph()->toString();
  EXPECT_EQ(graph.find("quantize_per_"), std::string::npos) << graph;
  EXPECT_NE(graph.find("aten::round"), std::string::npos) << graph;
  const Outcome same = testing::tsquant({"evaluate", path("out.pt"), "--data", path("data.pt"), "--inputs", "images",
                                         "--labels", "labels", "--metric", "top1", "--json", "-"});
  ASSERT_EQ(same.code, 0) << same.err;
  EXPECT_GE(same.json().at("value").get<double>(), 0.85);
  const Outcome other = convert({"--form", "lowered", "--use-reference-representation"});
  EXPECT_NE(other.code, 0);
  EXPECT_NE(other.err.find("choose the reference form"), std::string::npos) << other.err;
}

TEST_F(PrepareCommand, WithoutDataThereIsNothingToConvert) {
  ASSERT_EQ(prepare({}).code, 0);
  const Outcome result = convert({"--form", "reference"});
  EXPECT_NE(result.code, 0);
  EXPECT_NE(result.err.find("has seen data"), std::string::npos) << result.err;
  EXPECT_FALSE(std::ifstream(path("out.pt.tmp")).good());
}

TEST_F(PrepareCommand, ForTrainingTheParametersHaveGradients) {
  ASSERT_EQ(prepare({"--qat"}).code, 0);
  const auto module = torch::jit::load(path("prepared.pt"));
  EXPECT_TRUE(module.is_training());
  EXPECT_TRUE(is_prepared(module));
  size_t trained = 0;
  for (const auto& parameter : module.parameters()) trained += parameter.requires_grad() ? 1 : 0;
  EXPECT_GT(trained, 3U);
  EXPECT_NE(prepare({"--qat", "--calibrate", "3"}).code, 0);
}

TEST_F(PrepareCommand, TheMappingDecides) {
  std::ofstream(path("mapping.json")) << R"({"": null, "object_type": []})";
  const auto all = quantizers({"--quantizer", "fx", "--qconfig", "x86"});
  EXPECT_GT(all.size(), 3U);
  EXPECT_NE(quantizers({"--quantizer", "fx", "--qconfig", "qnnpack"}), all);
  const Outcome nothing = prepare({"--quantizer", "fx", "--qconfig", path("mapping.json")});
  EXPECT_NE(nothing.code, 0);
  EXPECT_NE(nothing.err.find("nothing in this model could be quantized"), std::string::npos) << nothing.err;
  EXPECT_EQ(prepare({"--qconfig", "x86"}).code, 2);
  const Outcome unknown = prepare({"--quantizer", "fx", "--qconfig", "x87"});
  EXPECT_NE(unknown.err.find("x86"), std::string::npos) << unknown.err;
}

TEST_F(PrepareCommand, DefaultMappingsCanBePrintedAndEdited) {
  const auto wanted = quantizers({"--quantizer", "fx", "--qconfig", "qnnpack"});
  const Strings print{"options", "--qconfig", "qnnpack", "--json", path("mapping.json")};
  ASSERT_EQ(testing::tsquant(print).code, 0);
  EXPECT_EQ(quantizers({"--quantizer", "fx", "--qconfig", path("mapping.json")}), wanted);
  const auto shown = testing::tsquant({"options", "--qconfig", "qnnpack", "--qat"});
  EXPECT_NE(shown.out.find("FusedMovingAvgObsFakeQuantize"), std::string::npos) << shown.out;
  EXPECT_NE(testing::tsquant({"options", "--qat"}).code, 0);
  EXPECT_NE(testing::tsquant({"options", "--qconfig", "x87"}).err.find("qnnpack"), std::string::npos);
}

TEST_F(PrepareCommand, OtherFilesAreRefusedByConvert) {
  const Outcome result = testing::tsquant({"convert", path("model.pt"), "-o", path("out.pt"), "--form", "decomposed"});
  EXPECT_NE(result.code, 0);
  EXPECT_NE(result.err.find("tsquant prepare"), std::string::npos) << result.err;
}

TEST_F(PrepareCommand, MappingsThatCannotBeReadAreFiles) {
  for (const auto& file : {path("nosuch.json"), std::string("nosuch.json"), folder_}) {
    const Outcome result = prepare({"--quantizer", "fx", "--qconfig", file});
    EXPECT_NE(result.code, 0);
    EXPECT_NE(result.err.find("cannot be read"), std::string::npos) << result.err;
  }
}

TEST_F(PrepareCommand, PreparedModelsAreRefusedByTheOtherCommands) {
  ASSERT_EQ(prepare({}).code, 0);
  const Strings data{"--data", path("data.pt"), "--inputs", "images"};
  for (Strings arguments : {Strings{"prepare"}, Strings{"quantize"}, Strings{"compress"}}) {
    const std::string command = arguments[0];
    arguments.insert(arguments.end(), {path("prepared.pt"), "-o", path("out.pt")});
    if (command != "compress") arguments.insert(arguments.end(), data.begin(), data.end());
    const Outcome result = testing::tsquant(arguments);
    EXPECT_NE(result.code, 0) << command;
    EXPECT_NE(result.err.find("already prepared"), std::string::npos) << command << result.err;
  }
}

}  // namespace
}  // namespace tsquant

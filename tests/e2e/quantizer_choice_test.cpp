// `--quantizer` of quantize, annotate and inspect.
#include <gtest/gtest.h>

#include "e2e/program.h"
#include "support/support.h"

namespace tsquant {
namespace {

using testing::Outcome;
using Strings = std::vector<std::string>;

class QuantizerChoice : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = testing::temp_dir();
    testing::write_small_model(folder_);
  }
  static std::string path(const std::string& name) { return folder_ + "/" + name; }
  static Outcome quantize(const Strings& more) {
    Strings arguments{"quantize",      path("model.pt"), "-o",     path("out.pt"), "--data",
                      path("data.pt"), "--inputs",       "images", "--json",       "-"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return testing::tsquant(arguments);
  }
  static nlohmann::json quantizers(const std::string& name) {
    const Outcome result = quantize({"--quantizer", name});
    EXPECT_EQ(result.code, 0) << result.err;
    return result.code == 0 ? result.json().at("quantizers") : nlohmann::json::array();
  }
  static std::string folder_;
};

std::string QuantizerChoice::folder_;

size_t weights_per_channel(const nlohmann::json& quantizers) {
  size_t count = 0;
  for (const auto& record : quantizers) count += record.at("kind") == "weight" && record.at("scale").size() > 1;
  return count;
}

std::set<std::string> activation_types(const nlohmann::json& quantizers) {
  std::set<std::string> types;
  for (const auto& record : quantizers) {
    if (record.at("kind") == "activation") types.insert(record.at("dtype"));
  }
  return types;
}

TEST_F(QuantizerChoice, EachNameIsAnotherQuantizer) {
  const auto openvino = quantizers("openvino"), x86 = quantizers("x86_inductor"), xnnpack = quantizers("xnnpack");
  EXPECT_EQ(activation_types(x86), std::set<std::string>{"quint8"});
  EXPECT_EQ(activation_types(xnnpack), std::set<std::string>{"qint8"});
  EXPECT_GT(weights_per_channel(x86), 0u);
  EXPECT_EQ(weights_per_channel(xnnpack), 0u) << "executorch's default";
  EXPECT_NE(openvino, x86);
  EXPECT_GT(xnnpack.size(), x86.size()) << "XNNPACK quantizes results as well";
  const auto fx = quantizers("fx");
  EXPECT_EQ(activation_types(fx), std::set<std::string>{"quint8"});
  EXPECT_GT(fx.size(), x86.size());
}

TEST_F(QuantizerChoice, XnnpackTakesScalesPerChannel) {
  const Outcome result = quantize({"--quantizer", "xnnpack", "--weights-per-channel", "true"});
  ASSERT_EQ(result.code, 0) << result.err;
  EXPECT_GT(weights_per_channel(result.json().at("quantizers")), 0u);
}

TEST_F(QuantizerChoice, OptionsThatItsObserversDoNotReadAreRefused) {
  const auto refused = [](const Strings& more, const std::string& option) {
    const Outcome result = quantize(more);
    EXPECT_EQ(result.code, 2) << option;
    EXPECT_NE(result.err.find(option + " was given, but the quantizer chose"), std::string::npos) << result.err;
  };
  for (const std::string name : {"xnnpack", "x86_inductor", "fx"}) {
    refused({"--quantizer", name, "--range-estimator-activations", "minmax"}, "--range-estimator-activations");
    refused({"--quantizer", name, "--range-estimator-weights", "minmax"}, "--range-estimator-weights");
    refused({"--quantizer", name, "--statistics", "item"}, "--statistics item");
    const Outcome mixed =
        quantize({"--quantizer", name, "--max-drop", "1", "--validation-metric", "agreement", "--convert-to-mixed"});
    EXPECT_EQ(mixed.code, 2);
    EXPECT_NE(mixed.err.find("only OpenVINOQuantizer has presets"), std::string::npos) << mixed.err;
  }
}

TEST_F(QuantizerChoice, SharedLibrary) {
  const auto records =
      quantizers(std::string(TSQUANT_PLUGIN_DIR) + "/libtest_quantizer_plugin.so");  // the example: linear layers only
  ASSERT_EQ(records.size(), 2u) << records;
  for (const auto& record : records) {
    EXPECT_NE(record.at("node").get<std::string>().find("linear"), std::string::npos) << record;
  }
}

TEST_F(QuantizerChoice, AnnotateAndInspectShowItsDecisions) {
  const Outcome annotate = testing::tsquant({"annotate", path("model.pt"), "--data", path("data.pt"), "--inputs",
                                             "images", "--quantizer", "xnnpack", "--json", "-"});
  ASSERT_EQ(annotate.code, 0) << annotate.err;
  const auto json = annotate.json();
  ASSERT_FALSE(json.at("quantizers").empty());
  for (const auto& quantizer : json.at("quantizers")) {
    EXPECT_EQ(quantizer.at("quant_max"), 127);
    EXPECT_EQ(quantizer.at("quant_min"), quantizer.at("kind") == "weight" ? -127 : -128);
    EXPECT_EQ(quantizer.at("dtype"), "Char");
  }
  const Outcome inspect = testing::tsquant(
      {"inspect", path("model.pt"), "--data", path("data.pt"), "--inputs", "images", "--quantizer", "x86_inductor"});
  ASSERT_EQ(inspect.code, 0) << inspect.err;
  EXPECT_NE(inspect.out.find("quantized"), std::string::npos);
}

TEST_F(QuantizerChoice, OptionsOfTheOtherQuantizerAreRefused) {
  for (const auto& [quantizer, option] :
       {std::pair<std::string, Strings>("x86_inductor", {"--preset", "mixed"}),
        std::pair<std::string, Strings>("x86_inductor", {"--weights-per-channel", "true"}),
        std::pair<std::string, Strings>("fx", {"--preset", "mixed"}),
        std::pair<std::string, Strings>("xnnpack", {"--ignore-type", "conv2d"}),
        std::pair<std::string, Strings>("xnnpack", {"--weights-bits", "8"})}) {
    const Outcome result = quantize({"--quantizer", quantizer, option[0], option[1]});
    EXPECT_EQ(result.code, 2) << option[0];
    EXPECT_NE(result.err.find(option[0]), std::string::npos) << result.err;
    EXPECT_NE(result.err.find("--quantizer " + quantizer), std::string::npos) << result.err;
  }
}

TEST_F(QuantizerChoice, UnknownNamesAndMissingLibrariesAreRefused) {
  const Outcome unknown = quantize({"--quantizer", "tensorrt"});
  EXPECT_EQ(unknown.code, 2);
  EXPECT_NE(unknown.err.find("\"tensorrt\""), std::string::npos) << unknown.err;
  EXPECT_NE(unknown.err.find("x86_inductor"), std::string::npos) << unknown.err;
  const Outcome missing = quantize({"--quantizer", path("missing.so")});
  EXPECT_EQ(missing.code, 2);
  EXPECT_NE(missing.err.find("missing.so"), std::string::npos) << missing.err;
}

}  // namespace
}  // namespace tsquant

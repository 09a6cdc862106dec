// What `annotate` and `inspect` show of the decisions.
#include <gtest/gtest.h>

#include <algorithm>

#include "e2e/program.h"
#include "support/support.h"

namespace tsquant {
namespace {

using nlohmann::json;
using testing::Outcome;

class Show : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = testing::temp_dir();
    testing::write_small_model(folder_);
  }
  static std::string path(const std::string& name) { return folder_ + "/" + name; }
  static Outcome run(const std::string& command, const std::vector<std::string>& more = {}) {
    std::vector<std::string> arguments{command, path("model.pt"), "--input-shape", "1,3,16,16"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    auto result = testing::tsquant(arguments);
    EXPECT_EQ(result.code, 0) << result.err;
    return result;
  }
  static json annotated(std::vector<std::string> more = {}) {
    more.insert(more.end(), {"--json", "-"});
    return run("annotate", more).json();
  }
  /// A field of all quantizers of a kind; null where it is missing.
  static std::vector<json> field(const json& placement, const std::string& kind, const std::string& name) {
    std::vector<json> values;
    for (const auto& quantizer : placement.at("quantizers")) {
      if (quantizer.at("kind") == kind) values.push_back(quantizer.value(name, json()));
    }
    return values;
  }
  static std::string folder_;
};
std::string Show::folder_;

TEST_F(Show, Fp8IsInTheTextAndTheJson) {
  for (const auto& value : field(annotated(), "activation", "destination_type")) EXPECT_TRUE(value.is_null());
  const auto placement = annotated({"--mode", "fp8_e4m3"});
  for (const auto& kind : {"activation", "weight"}) {
    const auto types = field(placement, kind, "destination_type");
    EXPECT_FALSE(types.empty());
    for (const auto& type : types) EXPECT_EQ(type, "f8e4m3");
  }
  EXPECT_NE(run("annotate", {"--mode", "fp8_e5m2"}).out.find("f8e5m2, per channel (axis 0)"), std::string::npos);
  EXPECT_EQ(run("annotate").out.find("f8e"), std::string::npos);
}

TEST_F(Show, HalfRangeIsInTheTextAndTheJson) {
  const auto count = [](const std::vector<json>& values) { return std::count(values.begin(), values.end(), true); };
  const auto weights = [](const json& placement) { return field(placement, "weight", "half_range"); };
  const auto all = weights(annotated({"--overflow-fix", "enable"}));
  EXPECT_EQ(count(all), static_cast<int64_t>(all.size()));
  EXPECT_EQ(count(weights(annotated({"--overflow-fix", "first_layer_only"}))), 1);
  EXPECT_EQ(count(weights(annotated({"--overflow-fix", "disable"}))), 0);
  EXPECT_NE(run("annotate", {"--overflow-fix", "enable"}).out.find("half range"), std::string::npos);
  EXPECT_EQ(run("annotate", {"--overflow-fix", "disable"}).out.find("half range"), std::string::npos);
}

TEST_F(Show, RefusalsAreInTheTextAndTheJson) {
  const std::vector<std::string> rule{"--ignore-name", "stem/conv2d/0"};
  const auto refusals = annotated(rule).at("refusals");
  const auto found = std::find_if(refusals.begin(), refusals.end(),
                                  [](const json& refusal) { return refusal.at("node") == "stem/conv2d/0"; });
  ASSERT_NE(found, refusals.end());
  EXPECT_EQ(found->at("code"), "ignored");
  EXPECT_EQ(found->at("reason"), "left in float by the ignored scope");
  EXPECT_NE(run("annotate", rule).out.find("left in float by the ignored scope"), std::string::npos);
  EXPECT_EQ(run("annotate").out.find("left in float by the ignored scope"), std::string::npos);
}

TEST_F(Show, OptionsAreNamedAsTheCommandLineNamesThem) {
  const auto result = testing::tsquant({"annotate", path("model.pt"), "--overflow-fix", "enable", "--weights-mode",
                                        "asymmetric", "--input-shape", "1,3,16,16"});
  EXPECT_EQ(result.code, 2);
  EXPECT_NE(result.err.find("use --overflow-fix disable"), std::string::npos) << result.err;
}

TEST_F(Show, QuantizedFilesAreRefused) {
  for (const std::string form : {"decomposed", "reference", "fake_quantize", "lowered"}) {
    const std::string file = path(form + ".pt");
    const auto made = testing::tsquant({"quantize", path("model.pt"), "-o", file, "--data", path("data.pt"), "--inputs",
                                        "images", "--form", form, "--engine", form == "lowered" ? "tsquant" : ""});
    ASSERT_EQ(made.code, 0) << made.err;
    const std::vector<std::vector<std::string>> commands{
        {"annotate", file},
        {"quantize", file, "-o", path("twice.pt"), "--data", path("data.pt"), "--inputs", "images"}};
    for (const auto& command : commands) {
      const auto result = testing::tsquant(command);
      EXPECT_EQ(result.code, 4) << form << command.front() << result.out;
      EXPECT_NE(result.err.find("already quantized"), std::string::npos) << result.err;
      EXPECT_NE(result.err.find("give the float model"), std::string::npos) << result.err;
    }
    EXPECT_EQ(testing::tsquant({"inspect", file}).code, 0) << form;
  }
}

TEST_F(Show, DotColoursQuantizedEdgesFloatIslandsAndWeights) {
  const std::string dot = run("inspect", {"--dot", "-", "--ignore-type", "linear"}).out;
  EXPECT_EQ(dot.find("digraph model {"), 0u);
  EXPECT_NE(dot.find("[color=green4, label=\"#"), std::string::npos) << dot;
  EXPECT_NE(dot.find("label=\"stem/conv2d/0\\nFloat[1,8,16,16]\\nweight #"), std::string::npos) << dot;
  // The classifier is the only operator without any quantizer around it.
  const auto grey = dot.find(", fillcolor=lightgrey];\n  n");
  ASSERT_NE(grey, std::string::npos) << dot;
  for (const auto* text : {"subgraph cluster_legend", "label=\"quantized\"", "label=\"computes in float\"",
                           "label=\"quantized weight\"", "shares its parameters"}) {
    EXPECT_NE(dot.find(text), std::string::npos) << text;
  }
}

TEST_F(Show, SvgIsDrawnInTheSameColours) {
  if (std::system("dot -V >/dev/null 2>&1") != 0) GTEST_SKIP() << "Graphviz is not installed";
  run("inspect", {"--svg", path("model.svg"), "--ignore-type", "linear"});
  const std::string svg = testing::bytes_of(path("model.svg"));
  EXPECT_NE(svg.find("<svg"), std::string::npos);
  EXPECT_NE(svg.find("stem/conv2d/0"), std::string::npos);
  EXPECT_NE(svg.find("stroke=\"#008b00\""), std::string::npos) << "quantized edges are green4";
  EXPECT_NE(svg.find("fill=\"lightgrey\""), std::string::npos) << "float islands are grey";
  EXPECT_NE(svg.find("stroke=\"steelblue\""), std::string::npos) << "weights have a frame";
  EXPECT_NE(svg.find("legend"), std::string::npos);
  const auto files = testing::files_in(folder_);
  EXPECT_EQ(std::count(files.begin(), files.end(), "model.svg.dot"), 0);
}

TEST_F(Show, RulesWithWhatTheyMatch) {
  const auto all = run("inspect", {"--rules", "--ignore-subgraph", "stem/conv2d/0:stem/conv2d/0"});
  EXPECT_NE(all.out.find("--ignore-subgraph stem/conv2d/0:stem/conv2d/0"), std::string::npos) << all.out;
  const auto json = run("inspect", {"--json", "-", "--ignore-subgraph", "stem/conv2d/0:stem/conv2d/0"}).json();
  EXPECT_EQ(json.at("rules").at(0).at("matches"), std::vector<std::string>{"stem/conv2d/0"}) << json.at("rules");
}

TEST_F(Show, TypesThatCannotBeQuantizedAreNamed) {
  testing::define("def forward(self, x):\n  return torch.linear(torch.linear(x, self.w).double(), self.v)\n",
                  {{"w", at::randn({16, 8})}, {"v", at::randn({4, 16}, at::kDouble)}})
      .save(path("double.pt"));
  for (const std::string command : {"annotate", "inspect"}) {
    const auto shown = testing::tsquant({command, path("double.pt"), "--input-shape", "5,8"});
    EXPECT_EQ(shown.code, 0) << shown.err;
    EXPECT_NE(shown.err.find("float64"), std::string::npos) << shown.err;
  }
}

}  // namespace
}  // namespace tsquant

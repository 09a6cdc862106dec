#include "graph/dump.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "graph/verify.h"
#include "support/support.h"
#include "tsquant/error.h"

namespace tsquant {
namespace {

using testing::define;

class Dump : public ::testing::Test {
 protected:
  Dump()
      : model_(
            Model::from(define("def forward(self, x):\n  y = torch.conv2d(x, self.w)\n  return y + x, torch.tanh(y)\n",
                               {{"w", at::ones({1, 1, 1, 1})}}))),
        view_(model_, record_shapes(model_, Sample{{at::ones({1, 1, 2, 2})}, {}})) {
    QuantizationPoint input, weight;
    input.id = 1;
    input.node = "x";
    weight.id = 7;
    weight.node = "conv2d";
    weight.input_port = 1;
    weight.spec.per_channel = true;
    annotations_.points = {input, weight};
    annotations_.unified_scale_groups = {{1}};
  }

  Model model_;
  GraphView view_;
  Annotations annotations_;
};

TEST_F(Dump, TextShowsNamesShapesAndQuantizers) {
  const std::string text = dump_text(view_, &annotations_);
  EXPECT_NE(text.find("/conv2d/0 (conv2d): PTConv2dMetatype Float[1,1,2,2]\n"
                      "    0 <- x {#1 8 bits symmetric, group 0}\n"
                      "    1 <- w {#7 8 bits symmetric per channel}\n"),
            std::string::npos)
      << text;
  EXPECT_EQ(dump_text(view_).find('{'), std::string::npos);
}

TEST_F(Dump, JsonHasOneQuantizerPerEdge) {
  const auto json = nlohmann::json::parse(dump_json(view_, &annotations_));
  EXPECT_EQ(json["nodes"].size(), view_.nodes().size());
  std::map<std::string, int> quantizers;
  for (const auto& edge : json["edges"]) {
    if (edge.contains("quantizer")) {
      quantizers[edge["producer"].get<std::string>() + ">" + edge["consumer"].get<std::string>()] = edge["quantizer"];
    }
  }
  EXPECT_EQ(quantizers, (std::map<std::string, int>{{"x>/conv2d/0", 1}, {"w>/conv2d/0", 7}, {"x>/add/0", 1}}));
}

TEST_F(Dump, DotColoursGroupsAndFloatIslands) {
  const std::string dot = dump_dot(view_, &annotations_);
  const auto id = [&](const std::string& name) { return "n" + std::to_string(view_.find(name)->id); };
  EXPECT_NE(dot.find(id("x") + " -> " + id("conv2d") + " [color=blue"), std::string::npos) << dot;
  EXPECT_NE(dot.find(id("tanh") + " [label=\"/tanh/0\\nFloat[1,1,2,2]\", fillcolor=lightgrey]"), std::string::npos);
  EXPECT_EQ(dot.find(id("w") + " ->"), std::string::npos);
  const std::string all = dump_dot(view_, &annotations_, true);
  EXPECT_NE(all.find(id("w") + " -> " + id("conv2d") + " [color=green4"), std::string::npos) << all;
  EXPECT_EQ(dump_dot(view_).find("lightgrey"), std::string::npos);
}

TEST(Verify, ReportsBrokenGraphs) {
  const Model model = Model::from(define("def forward(self, x):\n  return torch.relu(x)\n"));
  EXPECT_NO_THROW(verify_graph(model, "capture"));
  torch::jit::WithInsertPoint guard(model.graph()->return_node());
  model.graph()->insertGetAttr(model.graph()->inputs()[0], "training");
  EXPECT_NO_THROW(verify_graph(model, "capture"));
  for (auto* node : model.graph()->nodes()) {
    if (node->kind() == c10::prim::GetAttr) node->s_(c10::attr::name, "missing");
  }
  try {
    verify_graph(model, "my_pass");
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kInternal);
    EXPECT_NE(std::string(error.what()).find("my_pass"), std::string::npos);
    EXPECT_NE(std::string(error.what()).find("missing"), std::string::npos);
  }
}

}  // namespace
}  // namespace tsquant

#include "quantizers/dump.h"

#include <gtest/gtest.h>

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
    weight.kind = PointKind::kWeight;
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

TEST_F(Dump, DotColoursGroupsFloatIslandsAndWeights) {
  const std::string dot = dump_dot(view_, &annotations_);
  const auto id = [&](const std::string& name) { return "n" + std::to_string(view_.find(name)->id); };
  EXPECT_NE(dot.find(id("x") + " -> " + id("conv2d") + " [color=blue, label=\"#1 8 bits symmetric, group 0\"]"),
            std::string::npos)
      << dot;
  EXPECT_NE(dot.find(id("conv2d") + " -> " + id("tanh") + " [color=black]"), std::string::npos);
  EXPECT_NE(dot.find(id("tanh") + " [label=\"/tanh/0\\nFloat[1,1,2,2]\", fillcolor=lightgrey]"), std::string::npos);
  EXPECT_NE(dot.find(id("conv2d") +
                     " [label=\"/conv2d/0\\nFloat[1,1,2,2]\\nweight #7 8 bits symmetric, per channel (axis 0)\", "
                     "color=steelblue, penwidth=2]"),
            std::string::npos)
      << dot;
  EXPECT_EQ(dot.find(id("w") + " ->"), std::string::npos);
  const std::string all = dump_dot(view_, &annotations_, true);
  EXPECT_NE(all.find(id("w") + " -> " + id("conv2d") + " [color=green4"), std::string::npos) << all;
}

TEST_F(Dump, LegendExplainsTheColours) {
  const std::string dot = dump_dot(view_, &annotations_);
  EXPECT_NE(dot.find("subgraph cluster_legend"), std::string::npos);
  EXPECT_NE(dot.find("[color=green4, label=\"quantized\"]"), std::string::npos) << dot;
  EXPECT_NE(dot.find("[color=blue, label=\"shares its parameters (one colour per group)\"]"), std::string::npos);
  EXPECT_NE(dot.find("[label=\"computes in float\", fillcolor=lightgrey]"), std::string::npos);
  EXPECT_NE(dot.find("[label=\"quantized weight\", color=steelblue, penwidth=2]"), std::string::npos);
  // Without decisions there is nothing to explain.
  const std::string plain = dump_dot(view_);
  EXPECT_EQ(plain.find("legend"), std::string::npos);
  EXPECT_EQ(plain.find("lightgrey"), std::string::npos);
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

#include <gtest/gtest.h>

#include <set>

#include "graph/verify.h"
#include "support/support.h"
#include "tsquant/graph_view.h"

namespace tsquant {
namespace {

struct KitModel {
  const char* file;
  std::vector<int64_t> shape;
  bool tokens;
};

class KitView : public ::testing::TestWithParam<KitModel> {};

TEST_P(KitView, NamesAreUniqueAndShapesAreKnown) {
  if (testing::kit_dir().empty()) GTEST_SKIP() << "the kit is not here; set TSQUANT_KIT";
  const KitModel& kit = GetParam();
  const Model model = Model::load(testing::kit_dir() + "/models/" + kit.file);
  verify_graph(model, "capture");
  const auto input = kit.tokens ? at::zeros(kit.shape, at::kLong) : at::rand(kit.shape);
  const GraphView view(model, record_shapes(model, Sample{{input}, {}}));
  std::set<std::string> names, aliases;
  int operators = 0, known = 0;
  for (const ViewNode& node : view.nodes()) {
    EXPECT_TRUE(names.insert(node.name).second) << node.name;
    EXPECT_TRUE(aliases.insert(node.fx_name).second) << node.fx_name;
    EXPECT_EQ(view.find(node.name), &node);
    EXPECT_EQ(view.find(node.fx_name), &node);
    EXPECT_EQ(node.name.rfind("unnamed", 0), std::string::npos) << node.name;
    if (node.kind != NodeKind::kOperator) continue;
    ++operators;
    known += node.info.known;
  }
  EXPECT_GT(operators, 10);
  EXPECT_GT(known, 10);
  for (const ViewEdge& edge : view.edges()) EXPECT_LT(edge.from, edge.to);
}

INSTANTIATE_TEST_SUITE_P(Kit, KitView,
                         ::testing::Values(KitModel{"cifar10_resnet20.pt", {1, 3, 32, 32}, false},
                                           KitModel{"cifar10_mobilenetv2.pt", {1, 3, 32, 32}, false},
                                           KitModel{"cifar10_mobilenetv2_scripted.pt", {1, 3, 32, 32}, false},
                                           KitModel{"cifar10_vit.pt", {1, 3, 32, 32}, false},
                                           KitModel{"charlm_llama.pt", {1, 16}, true},
                                           KitModel{"reddit_bytelstm.pt", {1, 16}, true}),
                         [](const auto& info) {
                           std::string name = info.param.file;
                           return name.substr(0, name.find('.'));
                         });

TEST(KitStream, VoiceDetectorWithBranchesAndState) {
  if (testing::kit_dir().empty()) GTEST_SKIP() << "the kit is not here; set TSQUANT_KIT";
  const Model model = Model::load(testing::kit_dir() + "/models/silero_vad.jit");
  const GraphView view(model, record_shapes(model, Sample{{at::rand({1, 512}), 16000}, {}}));
  std::set<std::string> names;
  for (const ViewNode& node : view.nodes()) EXPECT_TRUE(names.insert(node.name).second) << node.name;
  for (const ViewEdge& edge : view.edges()) EXPECT_LT(edge.from, edge.to);
  EXPECT_GT(view.nodes().size(), 50u);
}

}  // namespace
}  // namespace tsquant

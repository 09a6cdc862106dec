#include "graph/dead_code.h"

#include <gtest/gtest.h>
#include <torch/csrc/jit/ir/irparser.h>
#include <torch/csrc/jit/passes/dead_code_elimination.h>

#include "graph/node_lists.h"
#include "support/support.h"

namespace tsquant::testing::dead_code_test {
namespace {

std::shared_ptr<torch::jit::Graph> graph_of(const std::string& body) {
  auto graph = std::make_shared<torch::jit::Graph>();
  torch::jit::parseIR("graph(%x : Tensor, %c : bool):\n  %1 : int = prim::Constant[value=1]()\n" + body, graph.get());
  return graph;
}

/// LibTorch's pass with alias analysis is the reference. @return how many nodes are left
size_t expect_as_libtorch(const std::string& body) {
  const auto ours = graph_of(body), theirs = graph_of(body);
  remove_dead_code(ours);
  torch::jit::EliminateDeadCode(theirs);
  EXPECT_EQ(ours->toString(), theirs->toString());
  return all_nodes(ours->block()).size();
}

TEST(DeadCode, ChainsThatNothingReadsGo) {
  EXPECT_EQ(expect_as_libtorch("  %2 : Tensor = aten::relu(%x)\n"
                               "  %3 : Tensor = aten::add(%2, %x, %1)\n"
                               "  %4 : Tensor = aten::tanh(%x)\n"
                               "  return (%4)\n"),
            1u);
}

TEST(DeadCode, WhatWritesIntoLiveTensorsStays) {
  EXPECT_EQ(expect_as_libtorch("  %2 : Tensor = aten::tanh(%x)\n"
                               "  %3 : Tensor = aten::relu_(%2)\n"
                               "  return (%2)\n"),
            2u);
  EXPECT_EQ(expect_as_libtorch("  %2 : Tensor = aten::tanh(%x)\n"
                               "  %3 : Tensor = aten::relu_(%2)\n"
                               "  %4 : Tensor = aten::neg(%3)\n"
                               "  return (%4)\n"),
            3u);
}

TEST(DeadCode, WhatWritesIntoDeadTensorsGoes) {
  EXPECT_EQ(expect_as_libtorch("  %2 : Tensor = aten::tanh(%x)\n"
                               "  %3 : Tensor = aten::relu_(%2)\n"
                               "  %4 : Tensor = aten::add_(%3, %x, %1)\n"
                               "  return (%x)\n"),
            0u);
}

TEST(DeadCode, ChecksStayAndLoseWhatNothingReads) {
  EXPECT_EQ(expect_as_libtorch("  %s : str = prim::Constant[value=\"no\"]()\n"
                               "  prim::If(%c)\n"
                               "    block0():\n"
                               "      %5 : Tensor = aten::relu(%x)\n"
                               "      -> ()\n"
                               "    block1():\n"
                               "      %6 : Tensor = aten::relu(%x)\n"
                               "      prim::RaiseException(%s, %s)\n"
                               "      -> ()\n"
                               "  prim::If(%c)\n"
                               "    block0():\n"
                               "      %7 : Tensor = aten::relu(%x)\n"
                               "      -> ()\n"
                               "    block1():\n"
                               "      -> ()\n"
                               "  return (%x)\n"),
            3u);
}

TEST(DeadCode, AssignedAttributesStay) {
  const Model model =
      Model::from(define("def forward(self, x):\n    self.h = self.h + 1\n    return x\n", {{"h", at::zeros({1})}}));
  remove_dead_code(model.graph());
  EXPECT_EQ(nodes_of_kind(model.graph()->block(), {"prim::SetAttr"}).size(), 1u);
}

TEST(DeadCode, ResultsOfBranchesGoOneByOne) {
  EXPECT_EQ(expect_as_libtorch("  %2 : Tensor, %3 : Tensor = prim::If(%c)\n"
                               "    block0():\n"
                               "      %5 : Tensor = aten::relu(%x)\n"
                               "      -> (%5, %x)\n"
                               "    block1():\n"
                               "      -> (%x, %x)\n"
                               "  return (%3)\n"),
            1u);
}

}  // namespace
}  // namespace tsquant::testing::dead_code_test

#include "graph/check_blocks.h"

#include <gtest/gtest.h>
#include <torch/csrc/jit/ir/irparser.h>

#include <stdexcept>

#include "graph/node_lists.h"

namespace tsquant::testing::check_blocks_test {
namespace {

using torch::jit::Graph;
using torch::jit::Node;

std::shared_ptr<Graph> graph() {
  auto parsed = std::make_shared<Graph>();
  torch::jit::parseIR(R"(
graph(%x : Tensor, %c : bool):
  %2 : Tensor = aten::relu(%x)
  %3 : Tensor = prim::If(%c)
    block0():
      %4 : Tensor = aten::mul(%2, %x)
      -> (%4)
    block1():
      -> (%2)
  %5 : Tensor = aten::tanh(%3)
  return (%5))",
                      parsed.get());
  return parsed;
}

Node* find(const std::shared_ptr<Graph>& graph, const char* kind) {
  return nodes_of_kind(graph->block(), {kind}).at(0);
}

std::string fault_of(const std::shared_ptr<Graph>& graph) {
  try {
    check_blocks(*graph);
  } catch (const std::runtime_error& error) {
    return error.what();
  }
  return "";
}

TEST(CheckBlocks, AWellFormedGraphPasses) { EXPECT_EQ(fault_of(graph()), ""); }

TEST(CheckBlocks, AValueIsReadAfterItsDefinition) {
  const auto moved = graph();
  find(moved, "aten::relu")->moveAfter(find(moved, "prim::If"));
  EXPECT_EQ(fault_of(moved), "a value is read where it is not defined: %2");
  EXPECT_THROW(moved->lint(), std::exception) << "LibTorch agrees";
}

TEST(CheckBlocks, AValueOfABranchIsUnknownOutside) {
  const auto leaked = graph();
  find(leaked, "aten::tanh")->replaceInput(0, find(leaked, "aten::mul")->output());
  EXPECT_EQ(fault_of(leaked), "a value is read where it is not defined: %4");
  EXPECT_THROW(leaked->lint(), std::exception);
}

/// A node that was made but not put into the graph still uses its inputs.
TEST(CheckBlocks, ANodeOutsideOfTheGraphIsFound) {
  const auto forgotten = graph();
  forgotten->create(c10::aten::neg, {forgotten->inputs()[0]});
  EXPECT_EQ(fault_of(forgotten), "a use belongs to no node: %x");
  EXPECT_THROW(forgotten->lint(), std::exception);
}

}  // namespace
}  // namespace tsquant::testing::check_blocks_test

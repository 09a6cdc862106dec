#include "graph/graph_fingerprint.h"

#include <gtest/gtest.h>
#include <torch/csrc/jit/ir/irparser.h>

#include <functional>

namespace tsquant::testing {
namespace {

using torch::jit::Graph;

std::shared_ptr<Graph> parsed() {
  auto graph = std::make_shared<Graph>();
  torch::jit::parseIR(R"(
graph(%x : Tensor, %y : Tensor):
  %one : int = prim::Constant[value=1]()
  %z : Tensor = aten::add(%x, %y, %one)
  return (%z)
)",
                      graph.get());
  return graph;
}

TEST(GraphFingerprint, EveryKindOfEditShows) {
  const std::vector<std::function<void(Graph&)>> edits{
      [](Graph& g) { g.outputs()[0]->node()->replaceInput(1, g.inputs()[0]); },
      [](Graph& g) { g.outputs()[0]->node()->input(2)->node()->i_(c10::attr::value, 2); },
      [](Graph& g) { g.outputs()[0]->setDebugName("sum"); },
      [](Graph& g) { g.outputs()[0]->setType(c10::TensorType::createContiguous(at::kFloat, at::kCPU, {2})); },
      [](Graph& g) { g.outputs()[0]->node()->setScope(g.current_scope()->push(c10::Symbol::scope("named"))); },
      [](Graph& g) { g.insertConstant(3); },
      [](Graph& g) { g.eraseOutput(0); },
  };
  for (size_t i = 0; i < edits.size(); ++i) {
    const auto graph = parsed();
    const size_t before = graph_fingerprint(*graph);
    EXPECT_EQ(graph_fingerprint(*graph), before) << i;
    edits[i](*graph);
    EXPECT_NE(graph_fingerprint(*graph), before) << i;
  }
}

}  // namespace
}  // namespace tsquant::testing

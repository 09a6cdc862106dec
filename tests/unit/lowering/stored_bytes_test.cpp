#include <gtest/gtest.h>

#include "lowering/lowering.h"
#include "qdq_support.h"
#include "support/support.h"

namespace tsquant::testing {
namespace {

const char* kSource = "def forward(self, x):\n    return torch.linear(x, self.weight)\n";

TEST(StoredBytes, CountsEachStorageOnce) {
  const auto weight = at::randn({4, 3});
  auto child = define(kSource, {{"weight", weight}});
  auto module = define("def forward(self, x):\n    return self.child.forward(x) + self.buffer\n",
                       {{"buffer", at::zeros({4})}}, {{"child", child}});
  module.register_attribute("extra", c10::ListType::ofTensors(), std::vector<at::Tensor>{weight, at::zeros({5})});
  EXPECT_EQ(stored_bytes(Model::from(module)), 12 * 4 + 4 * 4 + 5 * 4);
}

TEST(StoredBytes, CountsConstantsOfTheGraph) {
  Model model = Model::from(define(kSource, {{"weight", at::randn({4, 3})}}));
  {
    auto graph = model.graph();
    torch::jit::WithInsertPoint guard(*graph->nodes().begin());
    graph->insertConstant(at::zeros({10}));
  }
  EXPECT_EQ(stored_bytes(model), 12 * 4 + 40);
}

TEST(StoredBytes, QuantizedWeightIsAByteEachPlusItsParameters) {
  const auto weight = at::randn({4, 100});
  Model model = Model::from(define(kSource, {{"weight", weight}}));
  insert(model, Plan().add(PointKind::kWeight, only(model, "linear"), 1, per_channel(weight)));
  EXPECT_EQ(stored_bytes(model), 400 + 4 * 8 + 4 * 8);
}

TEST(StoredBytes, CountsPackedWeights) {
  auto module = define("def forward(self, x):\n    return x\n");
  const auto weight = at::quantize_per_tensor(at::randn({8, 16}), 0.1, 0, at::kQInt8);
  const auto engines = at::globalContext().supportedQEngines();
  const auto wanted = std::find_if(engines.begin(), engines.end(), [](auto e) { return e != at::QEngine::NoQEngine; });
  if (wanted == engines.end()) GTEST_SKIP() << "this LibTorch has no quantized engine";
  const auto previous = at::globalContext().qEngine();
  at::globalContext().setQEngine(*wanted);
  const auto packs = torch::jit::getAllOperatorsFor(c10::Symbol::fromQualString("quantized::linear_prepack"));
  ASSERT_FALSE(packs.empty());
  torch::jit::Stack stack{weight, c10::IValue()};
  packs[0]->getOperation()(stack);
  module.register_attribute("packed", stack.back().type(), stack.back());
  EXPECT_GE(stored_bytes(Model::from(module)), 8 * 16);
  at::globalContext().setQEngine(previous);
}

}  // namespace
}  // namespace tsquant::testing

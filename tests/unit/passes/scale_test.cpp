#include <gtest/gtest.h>
#include <torch/csrc/jit/ir/ir.h>

#include <ctime>

#include "graph/names.h"
#include "graph/node_lists.h"
#include "passes/rewrite_runner.h"
#include "support/build_under_test.h"
#include "support/support.h"

namespace tsquant::testing {
namespace {

/// Of processor time, which other work on the machine does not change. What takes linear time is far inside the limit;
/// with the square of the layers it took 46 s.
const double kLimit = 2 * slower();
constexpr int64_t kLayers = 480;

/// conv -> batch_norm -> relu_ again and again, each with parameters of its own: torch.jit.trace of nn.Sequential.
torch::jit::Module chain(int64_t layers) {
  torch::jit::Module root("__torch__.Chain");
  root.register_attribute("training", c10::BoolType::get(), false);
  std::string code = "def forward(self, x):\n";
  for (int64_t i = 0; i < layers; ++i) {
    torch::jit::Module layer(c10::QualifiedName("__torch__.Layer_" + std::to_string(i)));
    layer.register_attribute("training", c10::BoolType::get(), false);
    layer.register_parameter("weight", at::randn({4, 4, 1, 1}), false);
    layer.register_parameter("bias", at::randn({4}), false);
    for (const char* name : {"gamma", "variance"}) layer.register_buffer(name, at::rand({4}) + 0.5);
    for (const char* name : {"beta", "mean"}) layer.register_buffer(name, at::randn({4}));
    layer.define(R"(
def forward(self, x):
    y = torch._convolution(x, self.weight, self.bias, [1, 1], [0, 0], [1, 1], False, [0, 0], 1, False, False, True, True)
    y = torch.batch_norm(y, self.gamma, self.beta, self.mean, self.variance, False, 0.1, 1e-5, True)
    return torch.relu_(y)
)");
    root.register_module("m" + std::to_string(i), layer);
    code += "    x = self.m" + std::to_string(i) + ".forward(x)\n";
  }
  root.define(code + "    return x\n");
  return root;
}

TEST(PassesScaleTest, convolutions_with_batch_norm) {
  auto model = Model::from(chain(kLayers));
  const std::clock_t begin = std::clock();
  run_passes(model);
  EXPECT_LT(static_cast<double>(std::clock() - begin) / CLOCKS_PER_SEC, kLimit);
  const auto* block = model.graph()->block();
  EXPECT_EQ(nodes_of_kind(const_cast<torch::jit::Block*>(block), {"aten::conv2d"}).size(), size_t{kLayers});
  EXPECT_EQ(nodes_of_kind(const_cast<torch::jit::Block*>(block), {"aten::relu"}).size(), size_t{kLayers});
  EXPECT_TRUE(nodes_of_kind(const_cast<torch::jit::Block*>(block), {"aten::batch_norm", "aten::relu_"}).empty());
}

TEST(PassesScaleTest, names_of_replacements_are_free) {
  auto model = Model::from(define(R"(
def forward(self, x):
    a = torch.linear(x, self.w, None)
    b = torch.matmul(a, torch.t(self.w))
    c = torch.matmul(b, torch.t(self.w))
    return torch.matmul(c, self.w)
)",
                                  {{"w", at::randn({4, 4})}}));
  run_passes(model);
  std::vector<std::string> names;
  for (const auto* node : nodes_of_kind(model.graph()->block(), {"aten::linear", "aten::matmul"})) {
    names.push_back(names_of(node).name);
  }
  EXPECT_EQ(names, (std::vector<std::string>{"/linear/0", "/linear/1", "/linear/2", "/matmul/2"}));
}

}  // namespace
}  // namespace tsquant::testing

// Lists of tensors in modules with several methods, which graph tests do not have.
#include <gtest/gtest.h>

#include "graph/node_lists.h"
#include "graph/params.h"
#include "passes/rewrite_runner.h"
#include "support/support.h"

namespace tsquant::testing::tensor_lists {
namespace {

constexpr const char* kForward = R"(
def forward(self, x):
    return torch.linear(x, torch.cat(self.parts))
)";

/// @param other a second method
torch::jit::Module module_with(const std::string& other) {
  at::manual_seed(5);
  static int counter = 0;
  torch::jit::Module module("__torch__.Lists" + std::to_string(counter++));
  module.register_attribute("training", c10::BoolType::get(), false);
  module.register_parameter("a", at::randn({2, 3}), false);
  const c10::List<at::Tensor> parts{module.attr("a").toTensor(), at::randn({4, 3})};
  module.register_attribute("parts", c10::ListType::ofTensors(), parts);
  module.define(kForward + other);
  return module;
}

/// The names of the tensors that `forward` puts together; empty: the list is still read as a whole.
std::vector<std::string> parts_of(const std::string& other) {
  Model model = Model::from(module_with(other));
  const Sample sample{{at::randn({5, 3})}, {}};
  const auto expected = model.run(sample).toTensor();
  RewriteRunner(model).run_pass("unpack_tensor_lists");
  EXPECT_TRUE(at::equal(model.run(sample).toTensor(), expected));
  std::vector<std::string> names;
  for (const auto* list : nodes_of_kind(model.graph()->block(), {"prim::ListConstruct"})) {
    for (const auto* part : list->inputs()) {
      const auto param = param_of(model, part);
      if (param) names.push_back(param->name);
    }
  }
  return names;
}

TEST(UnpackTensorLists, MethodsThatOnlyReadTheListAreNoObstacle) {
  const std::vector<std::string> unpacked{"a", "parts_1"};
  EXPECT_EQ(parts_of(""), unpacked);
  EXPECT_EQ(parts_of(R"(
def total(self):
    return torch.cat(self.parts).sum() + len(self.parts) + self.parts[0].sum()
)"),
            unpacked);
}

TEST(UnpackTensorLists, MethodsThatMayChangeItAre) {
  const std::vector<std::string> none;
  EXPECT_EQ(parts_of(R"(
def grow(self, x):
    self.parts.append(x)
    return len(self.parts)
)"),
            none);
  EXPECT_EQ(parts_of(R"(
def replace(self, x):
    self.parts = [x, x]
    return len(self.parts)
)"),
            none);
  EXPECT_EQ(parts_of(R"(
def scale(self):
    for part in self.parts:
        part.mul_(2)
    return 0
)"),
            none)
      << "elements are written through the list";
  EXPECT_EQ(parts_of(R"(
def hand_on(self):
    return self.parts
)"),
            none);
  EXPECT_EQ(parts_of(R"(
def scale(self):
    self.a.mul_(2)
    return 0
)"),
            none)
      << "an element is written under its other name";
}

}  // namespace
}  // namespace tsquant::testing::tensor_lists

#include "graph/params.h"

#include <gtest/gtest.h>

#include "graph/node_lists.h"
#include "support/support.h"

namespace tsquant {
namespace {

using testing::define;
using torch::jit::Node;

Node* first(const Model& model, const std::string& kind) { return nodes_of_kind(model.graph()->block(), {kind}).at(0); }
std::vector<Node*> every(const Model& model, const std::string& kind) {
  return nodes_of_kind(model.graph()->block(), {kind});
}

Sample sample(const at::Tensor& x) { return Sample{{x}, {}}; }

TEST(Params, AttributesAreNamedByTheirPath) {
  const auto leaf = define("def forward(self, x):\n  return torch.linear(x, self.weight)\n", {{"weight", at::eye(2)}});
  const auto root = define("def forward(self, x):\n  return self.leaf.forward(x)\n", {}, {{"leaf", leaf}});
  const Model model = Model::from(root);
  const Node* linear = first(model, "aten::linear");
  const auto param = param_of(model, linear->input(1));
  ASSERT_TRUE(param);
  EXPECT_EQ(param->name, "leaf.weight");
  EXPECT_TRUE(param->tensor.equal(at::eye(2)));
  EXPECT_EQ(slot_of(model, linear->input(1))->name, "weight");
  EXPECT_FALSE(param_of(model, linear->input(0)));
  EXPECT_FALSE(slot_of(model, linear->input(0)));
}

TEST(Params, ConstantsHaveNoName) {
  const Model model = Model::from(define("def forward(self, x):\n  return torch.mul(x, torch.neg(x))\n"));
  Node* mul = first(model, "aten::mul");
  torch::jit::WithInsertPoint guard(mul);
  mul->replaceInput(1, model.graph()->insertConstant(at::full({3}, 2.f)));
  const auto param = param_of(model, mul->input(1));
  ASSERT_TRUE(param);
  EXPECT_EQ(param->name, "");
  EXPECT_EQ(param->tensor.numel(), 3);
}

TEST(Params, WrittenAttributesAreNotKnown) {
  const auto set = define("def forward(self, x):\n  y = x + self.state\n  self.state = y\n  return y\n",
                          {{"state", at::zeros({2})}});
  const Model by_set_attr = Model::from(set);
  EXPECT_FALSE(param_of(by_set_attr, first(by_set_attr, "aten::add")->input(1)));
  EXPECT_FALSE(ParamIndex(by_set_attr).find(first(by_set_attr, "aten::add")->input(1)));

  const auto in_place =
      define("def forward(self, x):\n  self.count.add_(1)\n  return x + self.count\n", {{"count", at::zeros({2})}});
  const Model by_add = Model::from(in_place);
  EXPECT_FALSE(param_of(by_add, first(by_add, "aten::add")->input(1)));
}

TEST(Params, WritesInOtherMethodsCount) {
  auto module = define("def forward(self, x):\n  return x + self.state\n", {{"state", at::zeros({2})}});
  module.define("def reset(self, x):\n  self.state = x\n  return x\n");
  const Model model = Model::from(module);
  EXPECT_FALSE(param_of(model, first(model, "aten::add")->input(1)));
  EXPECT_FALSE(ParamIndex(model).find(first(model, "aten::add")->input(1)));
}

TEST(Params, SetParamStoresInTheSlotOfTheOnlyReader) {
  Model model = Model::from(
      define("def forward(self, x):\n  return torch.mul(x, self.scale)\n", {{"scale", at::full({2}, 3.f)}}));
  set_param(model, first(model, "aten::mul"), 1, at::full({2}, 5.f));
  EXPECT_EQ(param_of(model, first(model, "aten::mul")->input(1))->name, "scale");
  EXPECT_TRUE(model.module().attr("scale").toTensor().equal(at::full({2}, 5.f)));
  EXPECT_TRUE(model.run(sample(at::ones({2}))).toTensor().equal(at::full({2}, 5.f)));
}

TEST(Params, SetParamLeavesOtherReadersAlone) {
  Model model =
      Model::from(define("def forward(self, x):\n  return torch.mul(x, self.scale), torch.div(x, self.scale)\n",
                         {{"scale", at::full({2}, 2.f)}}));
  set_param(model, first(model, "aten::mul"), 1, at::full({2}, 8.f));
  EXPECT_EQ(param_of(model, first(model, "aten::mul")->input(1))->name, "");
  const auto result = model.run(sample(at::ones({2}))).toTuple();
  EXPECT_TRUE(result->elements()[0].toTensor().equal(at::full({2}, 8.f)));
  EXPECT_TRUE(result->elements()[1].toTensor().equal(at::full({2}, .5f)));
}

TEST(Params, SetParamSeesReadersThroughSharedSubmodules) {
  const auto leaf =
      define("def forward(self, x):\n  return torch.mul(x, self.scale)\n", {{"scale", at::full({2}, 2.f)}});
  const auto root =
      define("def forward(self, x):\n  return self.b.forward(self.a.forward(x))\n", {}, {{"a", leaf}, {"b", leaf}});
  Model model = Model::from(root);
  set_param(model, every(model, "aten::mul").at(0), 1, at::full({2}, 8.f));
  EXPECT_TRUE(model.run(sample(at::ones({2}))).toTensor().equal(at::full({2}, 16.f)));
}

TEST(Params, SetParamSeesReadersInOtherMethods) {
  auto module = define("def forward(self, x):\n  return torch.mul(x, self.scale)\n", {{"scale", at::full({2}, 2.f)}});
  module.define("def inverse(self, x):\n  return torch.div(x, self.scale)\n");
  Model model = Model::from(module);
  set_param(model, first(model, "aten::mul"), 1, at::full({2}, 8.f));
  EXPECT_TRUE(model.finished_module().get_method("inverse")({at::ones({2})}).toTensor().equal(at::full({2}, .5f)));
  EXPECT_TRUE(model.run(sample(at::ones({2}))).toTensor().equal(at::full({2}, 8.f)));
}

/// What another method reads by calling forward, directly or through a helper, is read by the present forward.
TEST(Params, CallsOfForwardAreNoReaders) {
  auto module = define("def forward(self, x):\n  return torch.mul(x, self.scale)\n",
                       {{"scale", at::full({2}, 2.f)}, {"shift", at::full({2}, 1.f)}});
  module.define("def helper(self, x):\n  return self.forward(x) + self.shift\n");
  module.define("def twice(self, x):\n  for i in range(2):\n    x = self.helper(x)\n  return x\n");
  Model model = Model::from(module);
  EXPECT_TRUE(unread_attributes(model).empty()) << "helper reads the shift";
  set_param(model, first(model, "aten::mul"), 1, at::full({2}, 8.f));
  EXPECT_TRUE(model.module().attr("scale").toTensor().equal(at::full({2}, 8.f))) << "stored in its slot";
  EXPECT_TRUE(model.finished_module().get_method("twice")({at::ones({2})}).toTensor().equal(at::full({2}, 73.f)));
  // A call of forward leaves no optimised copy of the old graph behind.
  EXPECT_TRUE(model.module().forward({at::ones({2})}).toTensor().equal(at::full({2}, 8.f)));
}

TEST(Params, SetParamDoesNotTouchTheCallersModule) {
  auto module = define("def forward(self, x):\n  return torch.mul(x, self.scale)\n", {{"scale", at::full({2}, 2.f)}});
  Model model = Model::from(module);
  set_param(model, first(model, "aten::mul"), 1, at::full({2}, 8.f));
  EXPECT_TRUE(module.attr("scale").toTensor().equal(at::full({2}, 2.f)));
}

TEST(Params, ConstantsBehindValues) {
  auto module = torch::jit::Module("WithAttributes");
  module.register_attribute("dim", c10::IntType::get(), 1);
  module.register_attribute("keep", c10::BoolType::get(), true);
  module.define("def forward(self, x):\n  return torch.sum(x, [0, self.dim], self.keep)\n");
  const Model model = Model::from(module);
  const Node* sum = first(model, "aten::sum");
  ASSERT_TRUE(constant_of(model, sum->input(1)));
  EXPECT_EQ(constant_of(model, sum->input(1))->toIntVector(), (std::vector<int64_t>{0, 1}));
  EXPECT_TRUE(constant_of(model, sum->input(2))->toBool());
  EXPECT_TRUE(constant_of(model, sum->input(3))->isNone());
  EXPECT_FALSE(constant_of(model, sum->input(0)));
}

TEST(Params, AScopeAnswersAsTheSearchDoes) {
  const auto leaf =
      define("def forward(self, x):\n  self.count.add_(1)\n  return torch.mul(x, self.scale) + self.count\n",
             {{"scale", at::full({2}, 2.f)}, {"count", at::zeros({2})}});
  const auto root = define("def forward(self, x):\n  return self.leaf.forward(self.leaf.forward(x)) + self.shift\n",
                           {{"shift", at::ones({2})}}, {{"leaf", leaf}});
  Model model = Model::from(root);
  const auto answers = [&] {
    std::vector<std::string> texts;
    for (const Node* node : every(model, "prim::GetAttr")) {
      const auto slot = slot_of(model, node->output());
      const auto param = param_of(model, node->output());
      texts.push_back((slot ? slot->path : "no slot") + ", " + (param ? param->name : "no parameter"));
    }
    return texts;
  };
  const auto searched = answers();
  const ParamScope scope(model);
  EXPECT_EQ(answers(), searched);
  {
    const ParamScope inner(model);
    EXPECT_EQ(answers(), searched);
  }
  EXPECT_EQ(answers(), searched) << "the outer scope goes on";
  set_param(model, every(model, "aten::mul").at(0), 1, at::full({2}, 8.f));
  EXPECT_EQ(param_of(model, every(model, "aten::mul").at(0)->input(1))->name, "") << "the other call reads it, too";
  set_param(model, every(model, "aten::mul").at(1), 1, at::full({2}, 9.f));
  EXPECT_EQ(param_of(model, every(model, "aten::mul").at(1)->input(1))->name, "leaf.scale") << "now the only reader";
}

TEST(Params, AScopeForgetsReadersThatGo) {
  Model model =
      Model::from(define("def forward(self, x):\n  return torch.mul(x, self.scale), torch.div(x, self.scale)\n",
                         {{"scale", at::full({2}, 2.f)}}));
  const ParamScope scope(model);
  Node* div = first(model, "aten::div");
  Node* reader = div->input(1)->node();
  div->replaceInput(1, div->input(0));
  if (!reader->hasUses()) {
    forget_access(reader);
    reader->destroy();
  }
  set_param(model, first(model, "aten::mul"), 1, at::full({2}, 8.f));
  EXPECT_EQ(param_of(model, first(model, "aten::mul")->input(1))->name, "scale");
}

}  // namespace
}  // namespace tsquant

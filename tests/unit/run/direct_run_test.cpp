#include "run/direct_run.h"

#include <gtest/gtest.h>

#include "graph/node_lists.h"
#include "run/tap_runner.h"
#include "support/support.h"

namespace tsquant::testing::direct_run_test {
namespace {

Model model_of(const std::string& body, const std::vector<std::pair<std::string, at::Tensor>>& attributes = {}) {
  return Model::from(define("def forward(self, x):\n" + body, attributes));
}

/// Runs directly, and expects what LibTorch's interpreter gives.
void expect_same(const Model& model) {
  const Sample sample{{at::arange(6).view({2, 3}) - 2.5}, {}};
  const auto direct = run_directly(model, sample, {});
  ASSERT_TRUE(direct.has_value());
  const auto expected = TapRunner(model, {}).run(sample, {});
  ASSERT_TRUE(direct->isTensor() && expected.isTensor());
  EXPECT_TRUE(at::equal(direct->toTensor(), expected.toTensor()));
}

void expect_interpreter(const Model& model) {
  EXPECT_FALSE(run_directly(model, {{at::ones({2, 3})}, {}}, {}).has_value());
}

TEST(DirectRun, ComputesWhatTheInterpreterDoes) {
  expect_same(model_of("    return torch.mul(torch.add(x, self.w), self.w)\n", {{"w", at::randn({3})}}));
  expect_same(model_of("    a, b, c = torch.unbind(torch.cat([x, x * 2], 0), 1)\n    return torch.stack([c, a, b])\n"));
  expect_same(model_of("    values, places = torch.max(x, 1)\n    return values + places\n"));
  expect_same(model_of("    s = '{} rows'.format(x.size(0))\n    assert s == '2 rows', s\n    return x + len(s)\n"));
}

TEST(DirectRun, OneBranchRuns) {
  const char* const body =
      "    y = torch.tanh(x)\n"
      "    if bool(x.sum() > 0):\n"
      "        z = torch.relu(y)\n"
      "    else:\n"
      "        if x.size(0) == 2:\n"
      "            z = y * x\n"
      "        else:\n"
      "            z = y\n"
      "    return z + y\n";
  expect_same(model_of(body));
}

TEST(DirectRun, WritesIntoItsOwnTensors) {
  expect_same(model_of("    y = torch.add(x, 1)\n    y.mul_(10)\n    return torch.relu_(y).add_(2)\n"));
}

TEST(DirectRun, WhatOthersWouldSeeIsLeftToTheInterpreter) {
  expect_interpreter(model_of("    x.add_(1)\n    return x * 2\n"));
  expect_interpreter(model_of("    self.h.add_(1)\n    return x + self.h\n", {{"h", at::zeros({3})}}));
  expect_interpreter(model_of("    self.h = self.h + 1\n    return x + self.h\n", {{"h", at::zeros({3})}}));
  expect_interpreter(model_of("    print(x)\n    return x + 1\n"));
  expect_interpreter(model_of("    for i in range(x.size(0)):\n        x = x + i\n    return x\n"));
}

TEST(DirectRun, FailuresAreLeftToTheInterpreter) {
  expect_interpreter(model_of("    assert x.dim() == 3, 'three'\n    return x + 1\n"));
  expect_interpreter(model_of("    return torch.mm(x, x)\n"));
}

TEST(DirectRun, TheSinkSeesInputsAndResultsInOrder) {
  const Model model = model_of("    return torch.relu(torch.add(x, 1))\n");
  std::vector<std::string> seen;
  run_directly(model, {{at::ones({2, 3})}, {}}, [&](const torch::jit::Value* value, const c10::IValue& content) {
    if (content.isTensor()) seen.push_back(value->node()->kind().toUnqualString());
  });
  EXPECT_EQ(seen, (std::vector<std::string>{"Param", "add", "relu"}));
}

/// A large model would not fit into memory with all its activations.
TEST(DirectRun, ATensorLeavesWithItsLastReader) {
  const Model model = model_of("    return torch.neg(torch.relu(torch.add(x, 1)))\n");
  c10::weak_intrusive_ptr<c10::TensorImpl> added{c10::intrusive_ptr<c10::TensorImpl>()};
  bool gone = false;
  run_directly(model, {{at::ones({2, 3})}, {}}, [&](const torch::jit::Value* value, const c10::IValue& content) {
    const auto kind = value->node()->kind();
    if (kind == c10::aten::add) added = c10::weak_intrusive_ptr<c10::TensorImpl>(content.toTensor().getIntrusivePtr());
    if (kind == c10::aten::neg) gone = added.expired();
  });
  EXPECT_TRUE(gone);
}

}  // namespace
}  // namespace tsquant::testing::direct_run_test

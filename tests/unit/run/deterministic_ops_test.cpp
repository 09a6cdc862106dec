#include "run/deterministic_ops.h"

#include <ATen/Parallel.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include "run/tap_runner.h"
#include "support/support.h"
#include "tsquant/error.h"

namespace tsquant {
namespace {

/// Shapes at which LibTorch's choice depends on the batch (small images) or on the threads (1x1 filters), and linear
/// layers, of which OpenBLAS computes other blocks for other numbers of rows.
struct Case {
  std::string name, source;
  std::vector<int64_t> weight, input;
};

const std::vector<Case>& cases() {
  static const std::vector<Case> all{
      {"small", "torch.conv2d(x, self.w, self.b, [1, 1], [1, 1])", {16, 16, 3, 3}, {12, 16, 16, 16}},
      {"one by one", "torch.conv2d(x, self.w, self.b)", {16, 32, 1, 1}, {12, 32, 56, 56}},
      {"strided groups", "torch.conv2d(x, self.w, self.b, [2, 1], [0, 1], [1, 2], 2)", {16, 8, 3, 3}, {12, 16, 20, 20}},
      {"no bias", "torch.conv2d(x, self.w, None, [1, 1], [1, 1])", {16, 16, 3, 3}, {12, 16, 16, 16}},
      {"1d", "torch.conv1d(x, self.w, self.b, [2], [1], [2])", {16, 8, 3}, {12, 8, 50}},
      {"3d", "torch.conv3d(x, self.w, self.b, [1, 2, 1], [1, 0, 1])", {16, 4, 3, 3, 3}, {12, 4, 6, 7, 8}},
      {"linear", "torch.linear(x, self.w, self.b)", {384, 128}, {12, 65, 128}},
      {"linear of vectors", "torch.linear(x, self.w, None)", {10, 64}, {12, 64}},
      {"transposed rows", "torch.linear(x.transpose(1, 2), self.w, self.b)", {33, 24}, {12, 24, 17}},
      {"padding by name", "torch.conv2d(x, self.w, self.b, [1, 1], \"same\")", {16, 16, 3, 3}, {12, 16, 16, 16}},
      {"double", "torch.conv2d(x.double(), self.w.double(), None)", {4, 4, 3, 3}, {12, 4, 8, 8}}};
  return all;
}

Model model_of(const Case& c) {
  torch::manual_seed(6);
  return Model::from(testing::define("def forward(self, x):\n    return " + c.source + "\n",
                                     {{"w", torch::randn(c.weight)}, {"b", torch::randn({c.weight[0]})}}));
}

at::Tensor run(const Model& model, const at::Tensor& x, bool deterministic) {
  return TapRunner(model, {}, deterministic).run(Sample{{x}, {}}, {}).toTensor();
}

TEST(DeterministicOps, ComputesWhatLibTorchComputes) {
  for (const auto& c : cases()) {
    const auto model = model_of(c);
    const auto x = torch::randn(c.input);
    EXPECT_TRUE(at::allclose(run(model, x, true), run(model, x, false), 1e-4, 1e-4)) << c.name;
    EXPECT_TRUE(at::allclose(run(model, x.narrow(0, 0, 1), true), run(model, x.narrow(0, 0, 1), false), 1e-4, 1e-4));
  }
}

TEST(DeterministicOps, BitsDependNeitherOnTheBatchNorOnTheThreads) {
  const int threads = at::get_num_threads();
  for (size_t i = 0; i < 9; ++i) {
    const auto& c = cases()[i];
    const auto model = model_of(c);
    const auto x = torch::randn(c.input);
    at::set_num_threads(1);
    const auto whole = run(model, x, true);
    const auto item = run(model, x.narrow(0, 3, 1), true);
    EXPECT_TRUE(at::equal(item, whole.narrow(0, 3, 1))) << c.name;
    at::set_num_threads(2);
    EXPECT_TRUE(at::equal(run(model, x, true), whole)) << c.name;
    EXPECT_TRUE(at::equal(run(model, x.narrow(0, 3, 1), true), item)) << c.name;
  }
  at::set_num_threads(threads);
}

TEST(DeterministicOps, ReplacesInsideBlocksAndLeavesTheModelAlone) {
  const auto model = Model::from(testing::define(R"(
def forward(self, x):
    for i in range(2):
        if bool(x.sum() > -1e9):
            x = torch.conv2d(x, self.w, None, [1, 1], [1, 1])
    return x
)",
                                                 {{"w", torch::randn({4, 4, 3, 3})}}));
  const auto graph = model.graph()->copy();
  use_deterministic_ops(*graph);
  EXPECT_NE(graph->toString().find("tsquant::deterministic_conv2d"), std::string::npos);
  EXPECT_EQ(graph->toString().find("aten::conv2d"), std::string::npos);
  EXPECT_EQ(model.graph()->toString().find("deterministic"), std::string::npos);
  const auto x = torch::randn({1, 4, 6, 6});
  EXPECT_TRUE(at::allclose(run(model, x, true), run(model, x, false), 1e-4, 1e-3));
}

TEST(DeterministicOps, LinearLayersOfOtherShapesAndTypes) {
  const auto linear = [](const at::Tensor& x, const at::Tensor& w) {
    const auto model =
        Model::from(testing::define("def forward(self, x):\n    return torch.linear(x, self.w)\n", {{"w", w}}));
    return run(model, x, true);
  };
  const auto w = torch::randn({5, 7});
  for (const auto& x : {torch::randn({7}), torch::randn({2, 3, 4, 7}), torch::empty({0, 7})}) {
    const auto y = linear(x, w), expected = at::linear(x, w);
    EXPECT_EQ(y.sizes(), expected.sizes());
    EXPECT_TRUE(at::allclose(y, expected, 1e-5, 1e-5));
  }
  EXPECT_EQ(linear(torch::randn({2, 7}, at::kDouble), w.to(at::kDouble)).scalar_type(), at::kDouble);
  try {
    linear(torch::randn({2, 6}), w);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kDataset);
    EXPECT_NE(error.message().find("[2, 6] is not 7"), std::string::npos) << error.what();
  }
}

TEST(DeterministicOps, RunsANodeAlone) {
  const auto model = model_of(cases()[0]);
  for (const auto* node : model.graph()->nodes()) {
    if (node->kind() != c10::aten::conv2d) continue;
    const auto x = torch::randn({1, 16, 16, 16}), w = torch::randn({16, 16, 3, 3});
    const std::vector<int64_t> one{1, 1};
    torch::jit::Stack stack{x, w, c10::IValue(), one, one, one, int64_t{1}};
    deterministic_operation(node)(stack);
    EXPECT_TRUE(at::equal(stack.at(0).toTensor(), at::mkldnn_convolution(x, w, {}, one, one, one, 1)));
    return;
  }
  FAIL() << "no convolution";
}

}  // namespace
}  // namespace tsquant

#include <gtest/gtest.h>

#include "graph/params.h"
#include "passes/rewrite_runner.h"
#include "support/rewrite.h"
#include "support/support.h"

namespace tsquant::testing {
namespace {

using Params = std::vector<std::pair<std::string, at::Tensor>>;

Params norm_params(int64_t channels, bool affine = true) {
  Params params{{"mean", at::randn({channels})}, {"var", at::rand({channels}) + 0.1}};
  if (affine) {
    params.emplace_back("gamma", at::randn({channels}));
    params.emplace_back("beta", at::randn({channels}));
  }
  return params;
}

bool fold(Model& model, const Sample* sample = nullptr) {
  RewriteContext context{model, model.warnings(), sample};
  fold_constant_attributes(context);
  return fold_batch_norm(context);
}

struct ConvCase {
  std::string name, call;
  std::vector<int64_t> weight, input;
  int64_t channels;
};

class Convolutions : public ::testing::TestWithParam<std::tuple<ConvCase, bool, bool>> {};

TEST_P(Convolutions, FoldIsExactAndRemovesTheNorm) {
  const auto& [conv, with_bias, affine] = GetParam();
  torch::manual_seed(3);
  Params params = norm_params(conv.channels, affine);
  params.emplace_back("weight", at::randn(conv.weight));
  if (with_bias) params.emplace_back("bias", at::randn({conv.channels}));
  std::string call = conv.call;
  call.replace(call.find("BIAS"), 4, with_bias ? "self.bias" : "None");
  const auto module =
      define("def forward(self, x):\n    c = " + call + "\n    return torch.batch_norm(c, " +
                 (affine ? "self.gamma, self.beta" : "None, None") + ", self.mean, self.var, False, 0.1, 1e-5, True)\n",
             params);
  const Sample sample{{at::randn(conv.input)}, {}};
  Model model = Model::from(module);
  const auto expected = model.run(sample);
  ASSERT_TRUE(fold(model, &sample));
  EXPECT_EQ(count_kind(model, "aten::batch_norm"), 0u);
  expect_same(expected, model.run(sample), 1e-6);
  expect_same(expected, Model::from(module).run(sample), 0);  // the caller's tensors are untouched
}

const std::vector<ConvCase> kConvolutions = {
    {"conv1d", "torch.conv1d(x, self.weight, BIAS, [1], [0], [1], 1)", {4, 3, 3}, {2, 3, 9}, 4},
    {"conv2d_grouped", "torch.conv2d(x, self.weight, BIAS, [2, 2], [1, 1], [1, 1], 2)", {4, 2, 3, 3}, {2, 4, 8, 8}, 4},
    {"conv3d",
     "torch.conv3d(x, self.weight, BIAS, [1, 1, 1], [0, 0, 0], [1, 1, 1], 1)",
     {4, 2, 2, 2, 2},
     {1, 2, 4, 4, 4},
     4},
    {"conv_transpose1d",
     "torch.conv_transpose1d(x, self.weight, BIAS, [2], [0], [0], 1, [1])",
     {3, 4, 3},
     {2, 3, 5},
     4},
    {"conv_transpose2d_grouped",
     "torch.conv_transpose2d(x, self.weight, BIAS, [2, 2], [1, 1], [1, 1], 2, [1, 1])",
     {4, 3, 3, 3},
     {2, 4, 5, 5},
     6},
    {"linear", "torch.linear(x, self.weight, BIAS)", {4, 3}, {5, 3}, 4},
};

INSTANTIATE_TEST_SUITE_P(All, Convolutions,
                         ::testing::Combine(::testing::ValuesIn(kConvolutions), ::testing::Bool(), ::testing::Bool()),
                         [](const auto& info) {
                           return std::get<0>(info.param).name + (std::get<1>(info.param) ? "_bias" : "_nobias") +
                                  (std::get<2>(info.param) ? "_affine" : "_plain");
                         });

const char* kConvNorm = R"(
def forward(self, x):
    c = torch.conv2d(x, self.weight, self.bias, [1, 1], [0, 0], [1, 1], 1)
    return torch.batch_norm(c, self.gamma, self.beta, self.mean, self.var, False, 0.1, 1e-5, True)
)";

TEST(FoldBatchNorm, WeightKeepsItsStateDictName) {
  Params params = norm_params(4);
  params.emplace_back("weight", at::randn({4, 3, 3, 3}));
  params.emplace_back("bias", at::randn({4}));
  Model model = Model::from(define(kConvNorm, params));
  const auto before = model.module().attr("weight").toTensor().clone();
  ASSERT_TRUE(fold(model));
  const auto* conv = nodes_of_kind(model.graph()->block(), {"aten::conv2d"}).at(0);
  EXPECT_EQ(param_of(model, conv->input(1))->name, "weight");
  EXPECT_EQ(param_of(model, conv->input(2))->name, "bias");
  EXPECT_FALSE(at::equal(before, model.module().attr("weight").toTensor()));
}

TEST(FoldBatchNorm, TinyVarianceStaysAccurate) {
  torch::manual_seed(5);
  Params params{{"mean", at::randn({4})}, {"var", at::full({4}, 1e-12)},       {"gamma", at::randn({4})},
                {"beta", at::randn({4})}, {"weight", at::randn({4, 3, 3, 3})}, {"bias", at::randn({4})}};
  Model model = Model::from(define(kConvNorm, params));
  const Sample sample{{at::randn({1, 3, 6, 6})}, {}};
  const auto expected = model.run(sample);
  ASSERT_TRUE(fold(model));
  expect_same(expected, model.run(sample), 1e-5);
}

TEST(FoldBatchNorm, InfiniteScaleIsLeftAlone) {
  Params params{{"mean", at::randn({4})}, {"var", at::full({4}, -1e-4)},       {"gamma", at::randn({4})},
                {"beta", at::randn({4})}, {"weight", at::randn({4, 3, 3, 3})}, {"bias", at::randn({4})}};
  Model model = Model::from(define(kConvNorm, params));
  EXPECT_FALSE(fold(model));
}

TEST(FoldBatchNorm, SharedWeightKeepsTheOtherReader) {
  torch::manual_seed(6);
  Params params = norm_params(4);
  params.emplace_back("weight", at::randn({4, 4, 3, 3}));
  params.emplace_back("bias", at::randn({4}));
  Model model = Model::from(define(R"(
def forward(self, x):
    plain = torch.conv2d(x, self.weight, self.bias, [1, 1], [1, 1], [1, 1], 1)
    c = torch.conv2d(plain, self.weight, self.bias, [1, 1], [1, 1], [1, 1], 1)
    return torch.batch_norm(c, self.gamma, self.beta, self.mean, self.var, False, 0.1, 1e-5, True) + plain
)",
                                   params));
  const Sample sample{{at::randn({1, 4, 6, 6})}, {}};
  const auto expected = model.run(sample);
  ASSERT_TRUE(fold(model));
  expect_same(expected, model.run(sample));
  EXPECT_TRUE(at::equal(model.module().attr("weight").toTensor(), params[4].second));
}

TEST(FoldBatchNorm, LinearWithThreeDimensionsStays) {
  // Batch norm works on dimension 1, which is the time here although it has as many entries as there are features.
  Params params = norm_params(4);
  params.emplace_back("weight", at::randn({4, 3}));
  Model model = Model::from(define(R"(
def forward(self, x):
    c = torch.linear(x, self.weight, None)
    return torch.batch_norm(c, self.gamma, self.beta, self.mean, self.var, False, 0.1, 1e-5, True)
)",
                                   params));
  const Sample sample{{at::randn({2, 4, 3})}, {}};
  EXPECT_FALSE(fold(model, &sample));
  EXPECT_FALSE(fold(model, nullptr));  // the rank is not known
  const Sample matrix{{at::randn({2, 3})}, {}};
  EXPECT_TRUE(fold(model, &matrix));
}

TEST(FoldBatchNorm, HalfPrecisionWeightsKeepTheirDtype) {
  Params params = norm_params(4);
  params.emplace_back("weight", at::randn({4, 3, 3, 3}));
  params.emplace_back("bias", at::randn({4}));
  for (auto& [name, tensor] : params) tensor = tensor.to(at::kBFloat16);
  Model model = Model::from(define(kConvNorm, params));
  ASSERT_TRUE(fold(model));
  EXPECT_EQ(model.module().attr("weight").toTensor().scalar_type(), at::kBFloat16);
}

}  // namespace
}  // namespace tsquant::testing

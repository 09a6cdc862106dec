#include <gtest/gtest.h>

#include "passes/rewrite_runner.h"
#include "support/rewrite.h"
#include "support/support.h"

namespace tsquant::testing {
namespace {

bool convert(Model& model) { return RewriteRunner(model).run_pass("scalars_to_tensors"); }

/// Number of buffers that the rewrite made; the result of the model stays the same in value and type.
size_t buffers_made(const std::string& source, const at::Tensor& x,
                    const std::vector<std::pair<std::string, at::Tensor>>& params = {}) {
  Model model = Model::from(define(source, params));
  run_passes(model);
  const auto before = model.run({{x}, {}}).toTensor();
  const bool changed = convert(model);
  const auto after = model.run({{x}, {}}).toTensor();
  EXPECT_EQ(after.scalar_type(), before.scalar_type());
  EXPECT_TRUE(at::allclose(after, before, 1e-6, 1e-6));
  const auto again = model.clone();
  EXPECT_TRUE(at::equal(again.run({{x}, {}}).toTensor(), after)) << "a copy has the buffers too";
  size_t count = 0;
  while (model.module().hasattr("_tensor_constant_" + std::to_string(count))) ++count;
  EXPECT_EQ(changed, count > 0);
  EXPECT_FALSE(convert(model)) << "a second run finds nothing";
  return count;
}

std::string returning(const std::string& expression) {
  return "def forward(self, x):\n    return " + expression + "\n";
}

TEST(ScalarsToTensors, NumbersOnEitherSide) {
  const auto x = at::randn({2, 3});
  EXPECT_EQ(buffers_made(returning("x + 1.5"), x), 1u);
  EXPECT_EQ(buffers_made(returning("0.5 * x + 0.25"), x), 2u);
  EXPECT_EQ(buffers_made(returning("x - 1.5"), x), 0u) << "executorch converts additions and products only";
}

TEST(ScalarsToTensors, IntegersOnlyWhereTheOtherOperandIsKnownToBeFloat) {
  const auto x = at::randn({2, 3});
  EXPECT_EQ(buffers_made(returning("torch.relu(torch.linear(x, self.w)) * 2"), x, {{"w", at::randn({3, 3})}}), 1u);
  EXPECT_EQ(buffers_made(returning("x * 2"), x), 0u) << "x could hold indices";
  EXPECT_EQ(buffers_made(returning("x * 2"), at::arange(6)), 0u);
}

TEST(ScalarsToTensors, FloatNumberKeepsTheTypeOfIntegerTensors) {
  EXPECT_EQ(buffers_made(returning("x * 0.5"), at::arange(6)), 1u);
}

TEST(ScalarsToTensors, KnownOtherTypesAreLeftAlone) {
  EXPECT_EQ(buffers_made(returning("self.w + 0.5 + x"), at::randn({3}), {{"w", at::arange(3)}}), 0u);
  EXPECT_EQ(buffers_made(returning("self.w * 0.1 + x"), at::randn({3}), {{"w", at::randn({3}, at::kDouble)}}), 0u);
}

TEST(ScalarsToTensors, InPlaceAndScaledAdditionsStay) {
  EXPECT_EQ(
      buffers_made("def forward(self, x):\n    y = torch.sigmoid(x)\n    y += 1.0\n    return y\n", at::randn({3})),
      0u);
  EXPECT_EQ(buffers_made(returning("torch.add(x, 1.0, alpha=2)"), at::randn({3})), 0u);
}

TEST(ScalarsToTensors, InnerBlocks) {
  EXPECT_EQ(buffers_made(R"(
def forward(self, x):
    if bool(x.sum() > 0):
        y = x * 2.5
    else:
        y = x + 0.5
    return y
)",
                         at::ones({3})),
            2u);
}

/// A trace writes `x * 0.5` as a product with a tensor of type double (`x * 2`: int64) without dimensions.
TEST(ScalarsToTensors, TensorsWithoutDimensionsOfTraces) {
  for (const auto& number : {at::scalar_tensor(0.5, at::kDouble), at::scalar_tensor(2, at::kLong)}) {
    Model model = Model::from(
        define(returning("torch.relu(torch.linear(x, self.w)) * self.c"), {{"w", at::randn({3, 3})}, {"c", number}}));
    auto* product = nodes_of_kind(model.graph()->block(), {"aten::mul"}).at(0);
    {
      torch::jit::WithInsertPoint guard(product);
      product->replaceInput(1, model.graph()->insertConstant(number));
    }
    const auto x = at::randn({2, 3});
    const auto before = model.run({{x}, {}}).toTensor();
    EXPECT_TRUE(convert(model));
    const auto buffer = model.module().attr("_tensor_constant_0").toTensor();
    EXPECT_EQ(buffer.scalar_type(), at::kFloat);
    EXPECT_EQ(buffer.item<float>(), number.item<float>());
    EXPECT_TRUE(at::equal(model.run({{x}, {}}).toTensor(), before));
  }
}

}  // namespace
}  // namespace tsquant::testing

#include "passes/scalars_to_tensors.h"

#include <gtest/gtest.h>

#include "passes/passes.h"
#include "support/rewrite.h"
#include "support/support.h"

namespace tsquant::testing {
namespace {

/// Number of buffers that the rewrite made; the result of the model stays the same in value and type.
size_t buffers_made(const std::string& source, const at::Tensor& x,
                    const std::vector<std::pair<std::string, at::Tensor>>& params = {}) {
  Model model = Model::from(define(source, params));
  run_passes(model);
  const auto before = model.run({{x}, {}}).toTensor();
  const bool changed = scalars_to_tensors(model);
  const auto after = model.run({{x}, {}}).toTensor();
  EXPECT_EQ(after.scalar_type(), before.scalar_type());
  EXPECT_TRUE(at::allclose(after, before, 1e-6, 1e-6));
  const auto again = model.clone();
  EXPECT_TRUE(at::equal(again.run({{x}, {}}).toTensor(), after)) << "a copy has the buffers too";
  size_t count = 0;
  while (model.module().hasattr("_tensor_constant_" + std::to_string(count))) ++count;
  EXPECT_EQ(changed, count > 0);
  EXPECT_FALSE(scalars_to_tensors(model)) << "a second run finds nothing";
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

TEST(ScalarsToTensors, TensorsWithoutDimensionsOfTraces) {
  Model model = Model::load(data_file("traces/swin_v2_t.pt"));
  run_passes(model);
  EXPECT_TRUE(scalars_to_tensors(model));
  EXPECT_TRUE(model.module().attr("_tensor_constant_0").toTensor().scalar_type() == at::kFloat);
}

}  // namespace
}  // namespace tsquant::testing

#include <gtest/gtest.h>

#include "graph/params.h"
#include "qdq_support.h"
#include "support/rewrite.h"
#include "support/support.h"

namespace tsquant::testing {
namespace {

const char* kNet = R"(
def forward(self, x, flag: bool):
    y = torch.conv2d(x, self.weight, self.bias, [1, 1], [1, 1], [1, 1], 1)
    if flag:
        y = torch.relu(y)
    y = torch.conv2d(y, self.second, None, [1, 1], [1, 1], [1, 1], 1)
    return torch.conv2d(y, self.second, None, [1, 1], [1, 1], [1, 1], 1) + y
)";

/// A network with a branch, a shared weight and points of every kind, in reference form.
Model reference(bool fold) {
  torch::manual_seed(4);
  const auto weight = at::randn({4, 3, 3, 3}), second = at::randn({4, 4, 3, 3});
  Model model = Model::from(define(kNet, {{"weight", weight}, {"bias", at::randn({4})}, {"second", second}}));
  const GraphView view(model);
  Plan plan;
  plan.add(PointKind::kActivation, "x", -1, per_tensor(0.03, 120));
  bool first = true;
  for (const auto& node : view.nodes()) {
    if (node.type == "conv2d") {
      plan.add(PointKind::kWeight, node.name, 1, first ? per_channel(weight) : per_channel(second));
      first = false;
    } else if (node.type == "relu") {
      plan.add(PointKind::kActivation, node.name, -1, per_tensor(0.05, 0));
    } else if (node.type == "add" || node.type == "__add__") {
      plan.add(PointKind::kActivation, node.name, 0, per_tensor(0.5, -10, at::kChar, -64, 63));
      plan.add(PointKind::kActivation, node.name, 1, per_tensor(0.5, -10, at::kChar, -128, 127));
    }
  }
  EXPECT_TRUE(insert(model, plan, fold).empty());
  return model;
}

std::vector<Sample> samples() {
  return {{{at::randn({2, 3, 6, 6}), true}, {}}, {{at::randn({2, 3, 6, 6}), false}, {}}};
}

class Forms : public ::testing::TestWithParam<bool> {};
INSTANTIATE_TEST_SUITE_P(Fold, Forms, ::testing::Bool(),
                         [](const auto& info) { return info.param ? "folded" : "kept"; });

TEST_P(Forms, DuplicatingGivesEveryConsumerItsOwn) {
  Model model = reference(GetParam());
  Model before = model.clone();
  duplicate_dequantize(model);
  model.graph()->lint();
  for (const auto* node : nodes_of_kind(model.graph()->block(), {"aten::dequantize"})) {
    EXPECT_EQ(node->output()->uses().size(), 1u);
  }
  const auto count = count_kind(model, "aten::dequantize");
  duplicate_dequantize(model);
  EXPECT_EQ(count_kind(model, "aten::dequantize"), count);
  for (const auto& sample : samples()) expect_same(before.run(sample), model.run(sample), 0);
}

TEST_P(Forms, DecomposedIsBitIdentical) {
  for (const bool duplicate : {false, true}) {
    const Model model = reference(GetParam());
    Model decomposed = model.clone();
    if (duplicate) duplicate_dequantize(decomposed);
    to_decomposed_form(decomposed);
    decomposed.graph()->lint();
    for (const char* kind :
         {"aten::dequantize", "aten::quantize_per_tensor", "aten::quantize_per_channel", "aten::clamp"}) {
      EXPECT_EQ(count_kind(decomposed, kind), 0u) << kind;
    }
    for (const auto& sample : samples()) expect_same(model.run(sample), decomposed.run(sample), 0);
    const auto weight = decomposed.module().attr("weight").toTensor();
    EXPECT_EQ(weight.scalar_type(), GetParam() ? at::kChar : at::kFloat);
    EXPECT_EQ(decomposed.module().attr("second").toTensor().scalar_type(), weight.scalar_type());
  }
}

TEST_P(Forms, DecomposedKeepsTheNarrowRange) {
  Model model = reference(GetParam());
  to_decomposed_form(model);
  size_t narrow = 0;
  for (const auto* node : nodes_of_kind(model.graph()->block(), {"quantized_decomposed::quantize_per_tensor"})) {
    narrow += constant_of(model, node->input(3))->toInt() == -64 && constant_of(model, node->input(4))->toInt() == 63;
  }
  EXPECT_EQ(narrow, 1u);
}

TEST_P(Forms, FakeQuantizeStaysWithinRounding) {
  for (const bool duplicate : {false, true}) {
    const Model model = reference(GetParam());
    Model fake = model.clone();
    if (duplicate) duplicate_dequantize(fake);
    to_fake_quantize_form(fake);
    fake.graph()->lint();
    for (const char* kind :
         {"aten::dequantize", "aten::quantize_per_tensor", "aten::quantize_per_channel", "aten::clamp"}) {
      EXPECT_EQ(count_kind(fake, kind), 0u) << kind;
    }
    EXPECT_EQ(count_kind(fake, "aten::fake_quantize_per_channel_affine") > 0, true);
    EXPECT_EQ(fake.module().attr("weight").toTensor().scalar_type(), at::kFloat);
    for (const auto& sample : samples()) {
      const auto a = model.run(sample).toTensor(), b = fake.run(sample).toTensor();
      EXPECT_LE((a - b).abs().max().item<double>(), 0.5 + 1e-4);  // one quantum of the addends
    }
  }
}

TEST(FakeQuantize, FoldedWeightsLieOnTheGrid) {
  Model model = reference(true);
  const auto codes = model.module().attr("weight").toTensor();
  to_fake_quantize_form(model);
  EXPECT_TRUE(at::equal(model.module().attr("weight").toTensor(), codes.dequantize()));
}

TEST(Forms, ArchivesRunAfterReload) {
  const Model model = reference(true);
  Model decomposed = model.clone(), fake = model.clone();
  to_decomposed_form(decomposed);
  to_fake_quantize_form(fake);
  const std::string dir = temp_dir();
  torch::NoGradGuard no_grad;
  for (const auto& [name, form] : {std::pair<const char*, const Model*>{"reference", &model},
                                   {"decomposed", &decomposed},
                                   {"fake_quantize", &fake}}) {
    const std::string path = dir + "/" + name + ".pt";
    form->save(path);
    auto loaded = torch::jit::load(path);
    for (const auto& sample : samples()) expect_same(form->run(sample), loaded.forward(sample.args), 0);
  }
}

TEST(PrintableConstants, LargeWholeScalesSurviveTheFile) {
  for (const double scale : {12345678912.0, 4e15, 5e16, 3e20}) {
    const std::string source = "def forward(self, x):\n    return torch.mul(x, " + std::to_string(scale) + ")\n";
    auto model = Model::from(define(source, {}));
    make_constants_printable(model);
    std::stringstream file;
    model.finished_module().save(file);
    auto loaded = torch::jit::load(file);
    const double factor = loaded.forward({at::ones({1}, at::kDouble)}).toTensor().item<double>();
    EXPECT_NEAR(factor / (scale == 5e16 ? 1e17 : scale), 1, 1e-9) << scale;
  }
}

}  // namespace
}  // namespace tsquant::testing

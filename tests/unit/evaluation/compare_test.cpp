#include "evaluation/compare.h"

#include <gtest/gtest.h>

#include <cmath>

#include "support/support.h"
#include "tsquant/error.h"

namespace tsquant {
namespace {

using testing::define;

const char* const kFloat = R"(
def forward(self, x):
  a = torch.linear(x, self.w)
  b = torch.relu(a)
  c = torch.linear(b, self.w)
  return torch.tanh(c)
)";
/// The same with a coarse quantization before the second linear layer.
const char* const kQuantized = R"(
def forward(self, x):
  a = torch.linear(x, self.w)
  b = torch.relu(a)
  q = torch.quantize_per_tensor(b, 0.5, 0, 13)
  c = torch.linear(q.dequantize(), self.w)
  return torch.tanh(c)
)";

at::Tensor weight() { return at::tensor({1., 2., -1., 0.5}, c10::kFloat).view({2, 2}); }
Dataset data() { return Dataset::from_rows({at::tensor({0.3, 0.7, 1.1, -0.2}, c10::kFloat).view({2, 2})}, 1); }

Model captured(const std::string& source) { return Model::from(define(source, {{"w", weight()}})); }

TEST(Compare, FindsTheLayerThatAddsTheError) {
  const Model reference = captured(kFloat), quantized = captured(kQuantized);
  const auto result = compare_models(reference, quantized, data(), 0);
  ASSERT_EQ(result.layers.size(), 4u);
  EXPECT_EQ(result.unmatched, 0);
  EXPECT_EQ(result.samples, 2);
  EXPECT_EQ(result.layers[0].type, "linear");
  EXPECT_EQ(result.layers[0].fx_name, "linear_1");
  EXPECT_GT(result.layers[0].added, 1e-4);
  // The layers before the quantization are exact.
  for (const auto& layer : result.layers) {
    if (layer.fx_name != "linear" && layer.fx_name != "relu") continue;
    EXPECT_TRUE(std::isinf(layer.sqnr_db)) << layer.fx_name;
    EXPECT_EQ(layer.max_error, 0);
    EXPECT_EQ(layer.added, 0);
  }
  EXPECT_EQ(ignore_options(result, 1).at(0), "--ignore-name " + result.layers[0].name);
  ASSERT_EQ(result.outputs.size(), 1u);
  EXPECT_GT(result.outputs[0].max_error, 0);
  EXPECT_LT(result.outputs[0].cosine, 1);
}

TEST(Compare, ValuesAreThoseOfTheFormulas) {
  const auto result = compare_models(captured(kFloat), captured(kQuantized), data(), 1);
  const auto x = at::tensor({0.3, 0.7}, c10::kFloat).view({1, 2}), w = weight();
  const auto b = at::relu(at::linear(x, w));
  const auto q = at::quantize_per_tensor(b, 0.5, 0, c10::kQUInt8).dequantize();
  const auto f = at::linear(b, w), g = at::linear(q, w);
  const double noise = (g - f).square().sum().item<double>() / f.square().sum().item<double>();
  EXPECT_NEAR(result.layers[0].noise, noise, 1e-6 * noise);
  EXPECT_NEAR(result.layers[0].sqnr_db, -10 * std::log10(noise), 1e-5);
  EXPECT_NEAR(result.layers[0].max_error, (g - f).abs().max().item<double>(), 1e-7);
}

TEST(Compare, LoweredLayersAreFoundByTheirStampAfterReloading) {
  Model model = captured(kFloat);
  stamp_value_names(model);
  const std::string path = testing::temp_dir() + "/stamped.pt";
  model.save(path);
  // A form with a kernel of its own: pairing must use the stamps, because operators no longer correspond in order.
  Model lowered = captured(R"(
def forward(self, x):
  tsq_relu = torch.relu(torch.linear(x, self.w))
  q = torch.quantize_per_tensor(tsq_relu, 0.25, 0, 13)
  return torch.tanh(torch.linear(q.dequantize(), self.w))
)");
  for (auto* node : lowered.graph()->nodes()) {
    if (node->kind() != c10::aten::quantize_per_tensor) continue;
    auto* kernel = lowered.graph()->create(c10::Symbol::fromQualString("quantized::relu6"), {node->output()});
    kernel->addInput(lowered.graph()->insertConstant(false));
    kernel->insertAfter(node);
    kernel->input(1)->node()->moveBefore(kernel);
    node->output()->replaceAllUsesAfterNodeWith(kernel, kernel->output());
    kernel->output()->setDebugName("tsq_linear_1");
    break;
  }
  const auto result = compare_models(captured(kFloat), lowered, data(), 0);
  ASSERT_EQ(result.layers.size(), 2u);
  const Model reloaded = Model::load(path);
  bool stamped = false;
  for (auto* node : reloaded.graph()->nodes()) {
    stamped |= node->kind() == c10::aten::linear && node->output()->debugName().rfind("tsq_linear_1", 0) == 0;
  }
  EXPECT_TRUE(stamped);
}

TEST(Compare, RefusesModelsThatDoNotBelongTogether) {
  const Model other = captured("def forward(self, x):\n  return torch.linear(x, self.w).flatten()\n");
  EXPECT_THROW(compare_models(captured(kFloat), other, data(), 0), Error);
  EXPECT_THROW(compare_models(captured(kFloat), captured(kQuantized), Dataset::from_tensors({}), 0), Error);
}

}  // namespace
}  // namespace tsquant

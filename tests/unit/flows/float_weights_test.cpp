#include "flows/float_weights.h"

#include <gtest/gtest.h>
#include <tsquant/compress_weights.h>
#include <tsquant/openvino_quantizer.h>
#include <tsquant/quantize_pt2e.h>

#include <algorithm>

#include "support/support.h"

namespace tsquant::testing::float_weights_test {
namespace {

bool has(const std::vector<std::string>& warnings, const std::string& begin, const std::string& part) {
  return std::any_of(warnings.begin(), warnings.end(), [&](const std::string& text) {
    return text.rfind(begin, 0) == 0 && text.find(part) != std::string::npos;
  });
}

std::vector<std::string> compressed(const torch::jit::Module& module, const IgnoredScope& ignored = {}) {
  Model model = Model::from(module);
  CompressWeightsOptions options;
  options.ignored_scope = ignored;
  return compress_weights(model, options).report.warnings;
}

torch::jit::Module with_einsum() {
  return define("def forward(self, x):\n    return torch.einsum('bi,oi->bo', [torch.linear(x, self.w), self.v])\n",
                {{"w", at::randn({64, 64})}, {"v", at::randn({32, 64})}});
}

TEST(FloatWeights, OfOperatorsThatAreNeverCompressedAreNamed) {
  constexpr const char* kBegin = "no format is known for weights";
  EXPECT_TRUE(has(compressed(with_einsum()), kBegin, "8192 bytes as floats, read by aten::einsum (v)"));
  const auto plain =
      define("def forward(self, x):\n    return torch.linear(torch.linear(x, self.w), self.v) + self.b\n",
             {{"w", at::randn({64, 64})}, {"v", at::randn({64, 64})}, {"b", at::randn({64})}});
  IgnoredScope ignored;
  ignored.names = {"linear/1"};
  ignored.validate = false;
  EXPECT_FALSE(has(compressed(plain, ignored), kBegin, "")) << "the user said so";
}

TEST(FloatWeights, BesideCodesTheyAreNamed) {
  Model model = Model::from(
      define("def forward(self, x):\n    return torch.linear(x, self.w) * torch.sum(torch.einsum('oi->o', [self.w]))\n",
             {{"w", at::randn({128, 128})}}));
  OpenVINOQuantizer quantizer;
  const auto result = quantize_pt2e(model, quantizer, Dataset::from_tensors({at::randn({4, 128})}));
  EXPECT_GT(result.report.quantized_bytes, result.report.float_bytes);
  EXPECT_TRUE(has(result.report.warnings, "the result is larger than the float model", "aten::einsum (w)"));
}

TEST(FloatWeights, AreCountedOnceAndNamedByTheirSize) {
  const at::Tensor shared = at::randn({8, 8});
  const Model model =
      Model::from(define("def forward(self, x):\n    return x + self.a + self.b + self.c + self.bias\n",
                         {{"a", shared}, {"b", shared}, {"c", at::randn({16, 8, 8})}, {"bias", at::randn({8})}}));
  const auto weights = float_weights(model);
  EXPECT_EQ(weights.size(), 3U);
  EXPECT_EQ(describe(weights), "4352 bytes as floats, read by aten::add (c, a, b)");
}

}  // namespace
}  // namespace tsquant::testing::float_weights_test

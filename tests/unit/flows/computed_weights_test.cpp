// Weights that the graph computes: stored before annotation where they are constant, reported with the reason
// elsewhere.
#include <gtest/gtest.h>
#include <tsquant/tsquant.h>

#include <filesystem>

#include "passes/rewrite_runner.h"
#include "support/rewrite.h"
#include "support/support.h"

namespace tsquant::testing::computed_weights_test {
namespace {

struct Case {
  const char* name;
  const char* weight;  ///< of the first convolution
  std::vector<std::pair<std::string, at::Tensor>> params;
  const char* stored;  ///< where the folded weight is kept
};

at::Tensor positive(at::IntArrayRef shape) { return at::rand(shape) + 0.5; }

std::vector<Case> cases() {
  at::manual_seed(1);
  const at::Tensor w = at::randn({64, 32, 3, 3});
  return {
      {"weight_norm",
       "torch._weight_norm(self.weight_v, self.weight_g, 0)",
       {{"weight_v", w}, {"weight_g", positive({64, 1, 1, 1})}},
       "weight"},
      {"weight_norm_of_all",
       "torch._weight_norm(self.weight_v, self.weight_g, -1)",
       {{"weight_v", w}, {"weight_g", at::full({}, 20.)}},
       "weight"},
      {"spectral_norm",
       "self.weight_orig / torch.dot(self.weight_u, torch.mv(torch.reshape(self.weight_orig, [64, -1]), "
       "self.weight_v))",
       {{"weight_orig", w}, {"weight_u", positive({64})}, {"weight_v", positive({288})}},
       "weight"},
      {"half", "self.kernel.to(6)", {{"kernel", w.to(at::kHalf)}}, "kernel"},
      {"int8",
       "self.codes.to(6) * self.scales",
       {{"codes", (w * 30).clamp(-127, 127).to(at::kChar)}, {"scales", positive({64, 1, 1, 1}) * 0.03}},
       "weight"},
      {"reshaped", "self.kernel.view([64, 32, 3, 3])", {{"kernel", w.reshape({64, 288})}}, "kernel"},
      {"transposed", "self.kernel.permute([3, 2, 0, 1])", {{"kernel", w.permute({2, 3, 1, 0}).contiguous()}}, "kernel"},
      {"scaled", "self.scale * self.buffer", {{"scale", at::full({}, 0.5)}, {"buffer", w}}, "weight"},
  };
}

torch::jit::Module net(const Case& c) {
  const std::string source = std::string("def forward(self, x):\n    y = torch.relu(torch.conv2d(x, ") + c.weight +
                             "))\n    return torch.conv2d(y, self.last)\n";
  auto params = c.params;
  at::manual_seed(2);
  params.emplace_back("last", at::randn({4, 64, 1, 1}));
  auto module = torch::jit::Module(std::string("__torch__.Computed_") + c.name);
  for (const auto& [name, tensor] : params) module.register_buffer(name, tensor);
  module.define(source);
  return module;
}

std::vector<at::Tensor> images() {
  at::manual_seed(3);
  std::vector<at::Tensor> tensors;
  for (int i = 0; i < 8; ++i) tensors.push_back(at::randn({1, 32, 6, 6}));
  return tensors;
}

QuantizedModel quantized(const torch::jit::Module& module, OutputForm form) {
  auto model = Model::from(module);
  OpenVINOQuantizer quantizer;
  QuantizePt2eOptions options;
  options.form = form;
  return quantize_pt2e(model, quantizer, Dataset::from_tensors(images()), options);
}

class ComputedWeight : public ::testing::TestWithParam<size_t> {};

TEST_P(ComputedWeight, IsStoredUnderASensibleNameAndTheOriginalsGo) {
  const Case c = cases()[GetParam()];
  Model model = Model::from(net(c));
  const auto expected = model.run({{images()[0]}, {}});
  run_passes(model);
  const GraphView view(model);
  const ViewNode* stored = view.find(c.stored);
  ASSERT_NE(stored, nullptr) << *model.graph();
  EXPECT_EQ(stored->kind, NodeKind::kParameter);
  expect_same(expected, model.run({{images()[0]}, {}}), 1e-6);
  for (const auto& [name, tensor] : c.params) {
    if (name != c.stored) EXPECT_EQ(model.module().attr(name).toTensor().numel(), 0) << name;
  }
}

TEST_P(ComputedWeight, IsQuantizedInTheFile) {
  const Case c = cases()[GetParam()];
  const std::string dir = temp_dir();
  auto module = net(c);
  // The float file that the module would be as a plain one.
  const double float_bytes = (64 * 32 * 9 + 4 * 64) * 4;
  for (const OutputForm form : {OutputForm::kReference, OutputForm::kDecomposed, OutputForm::kLowered}) {
    const auto result = quantized(module, form);
    EXPECT_TRUE(result.report.warnings.empty() ||
                result.report.warnings.front().find("computes the weight") == std::string::npos);
    result.save(dir + "/q.pt");
    EXPECT_LT(std::filesystem::file_size(dir + "/q.pt"), 0.6 * float_bytes);
    const at::Tensor wanted = module.forward({images()[0]}).toTensor();
    const at::Tensor error = result.model.run({{images()[0]}, {}}).toTensor() - wanted;
    EXPECT_LT((error.norm() / wanted.norm()).item<double>(), 0.05);
  }
}

INSTANTIATE_TEST_SUITE_P(Flows, ComputedWeight, ::testing::Range<size_t>(0, cases().size()),
                         [](const auto& info) { return cases()[info.param].name; });

std::string warning_about_weight(const Report& report) {
  for (const auto& warning : report.warnings) {
    if (warning.find("computes the weight") != std::string::npos) return warning;
  }
  return "";
}

TEST(ComputedWeights, WhatCannotBeStoredIsReportedWithTheReason) {
  const std::vector<std::pair<const char*, const char*>> sources = {
      {"self.w * x.mean()", "depends on the input \"x\""},
      {"self.w + torch.rand([64, 32, 3, 3]) * 1e-3", "random numbers"},
  };
  at::manual_seed(4);
  for (const auto& [weight, reason] : sources) {
    const auto module = define(std::string("def forward(self, x):\n    y = torch.relu(torch.conv2d(x, ") + weight +
                                   "))\n    return torch.conv2d(y, self.last)\n",
                               {{"w", at::randn({64, 32, 3, 3})}, {"last", at::randn({4, 64, 1, 1})}});
    const auto result = quantized(module, OutputForm::kReference);
    const std::string warning = warning_about_weight(result.report);
    EXPECT_NE(warning.find(reason), std::string::npos) << weight << ": " << warning;
    EXPECT_NE(warning.find("/conv2d/0"), std::string::npos) << warning;
  }
}

TEST(ComputedWeights, RotaryFrequenciesStayFloat) {
  const auto module = define(
      "def forward(self, x):\n"
      "    h = torch.linear(x, self.w)\n"
      "    p = torch.arange(x.size(0)).to(6).unsqueeze(0).unsqueeze(0)\n"
      "    f = (self.frequencies * 0.5).unsqueeze(0).unsqueeze(2)\n"
      "    a = torch.matmul(f, p).transpose(1, 2).select(0, 0)\n"
      "    return h * torch.cat([a, a], -1).cos()\n",
      {{"w", at::randn({16, 16})}, {"frequencies", at::rand({8})}});
  auto model = Model::from(module);
  OpenVINOQuantizer quantizer;
  const auto result = quantize_pt2e(model, quantizer, Dataset::from_tensors({at::randn({6, 16})}), {});
  int weights = 0;
  for (const auto& record : result.report.quantizers) weights += record.kind == "weight";
  EXPECT_EQ(weights, 1) << "the linear layer's alone";
}

}  // namespace
}  // namespace tsquant::testing::computed_weights_test

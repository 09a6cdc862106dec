// Batch norms behind layers, trained with them and folded at conversion.
#include <gtest/gtest.h>
#include <torch/optim.h>
#include <tsquant/fx/quantize_fx.h>
#include <tsquant/observer_module.h>
#include <tsquant/prepare_pt2e.h>

#include <limits>
#include <sstream>

#include "graph/node_lists.h"
#include "support/thrown_error.h"

namespace tsquant::testing::qat_norms {
namespace {

torch::jit::Module reloaded(const torch::jit::Module& module) {
  std::stringstream stream;
  module.save(stream);
  return torch::jit::load(stream);
}

/// A layer of 8 outputs and its norm. The bias is declared as scripted layers declare theirs.
torch::jit::Module net(const at::Tensor& weight, const std::string& layer) {
  torch::jit::Module module("__torch__.LayerWithNorm");
  module.register_parameter("w", weight, /*is_buffer=*/false);
  module.register_attribute("b", c10::OptionalType::ofTensor(), at::randn({8}) * 2, /*is_param=*/true);
  for (const char* name : {"g", "c"}) module.register_parameter(name, at::rand({8}) + 0.5, /*is_buffer=*/false);
  for (const char* name : {"m", "v"}) module.register_buffer(name, at::rand({8}) + 0.5);
  module.define("def forward(self, x):\n    y = " + layer +
                "\n    return torch.batch_norm(y, self.g, self.c, self.m, self.v, False, 0.1, 1e-5, True)\n");
  return module;
}

torch::jit::Module convolution() {
  at::manual_seed(3);
  return net(at::randn({8, 3, 3, 3}) * 0.3, "torch.conv2d(x, self.w, self.b, [1, 1], [1, 1])");
}

torch::jit::Module linear() {
  at::manual_seed(4);
  return net(at::randn({8, 6}), "torch.linear(x, self.w, self.b)");
}

torch::jit::Module prepared(const torch::jit::Module& module, const at::Tensor& x) {
  return fx::prepare_qat_fx(Model::from(module), fx::get_default_qat_qconfig_mapping("x86"), {{x}, {}});
}

/// Ten steps on one batch; evaluation mode afterwards.
void train(torch::jit::Module& module, const at::Tensor& x) {
  std::vector<at::Tensor> parameters;
  for (const auto& parameter : module.parameters()) {
    if (parameter.requires_grad()) parameters.push_back(parameter);
  }
  torch::optim::SGD optimizer(parameters, 0.02);
  for (int step = 0; step < 10; ++step) {
    optimizer.zero_grad();
    module.forward({x}).toTensor().pow(2).mean().backward();
    optimizer.step();
  }
  module.eval();
  disable_observer(module);
}

void expect_folded(const torch::jit::Module& float_module, const at::Tensor& x) {
  auto module = prepared(float_module, x);
  ASSERT_TRUE(module.hasattr("conv_bn_0"));
  train(module, x);
  const at::Tensor trained = module.forward({x}).toTensor().detach();
  for (const auto& given : {module, reloaded(module)}) {
    const auto result = fx::convert_to_reference_fx(given);
    EXPECT_TRUE(nodes_of_kind(result.model.graph()->block(), {"aten::batch_norm"}).empty());
    const at::Tensor converted = result.model.run({{x}, {}}).toTensor();
    EXPECT_LT(((converted - trained).norm() / trained.norm()).item<double>(), 0.03);
  }
}

TEST(QatNorms, OfLinearLayersAreFolded) { expect_folded(linear(), at::randn({20, 6})); }

TEST(QatNorms, BehindOptionalBiasesAreFolded) { expect_folded(convolution(), at::randn({4, 3, 8, 8})); }

TEST(QatNorms, ThatCannotBeFoldedAreNamed) {
  const at::Tensor x = at::randn({4, 3, 8, 8});
  auto module = prepared(convolution(), x);
  train(module, x);
  module.attr("m").toTensor().fill_(std::numeric_limits<double>::infinity());
  const auto error = thrown_error([&] { fx::convert_to_reference_fx(module); });
  EXPECT_EQ(error.code(), ErrorCode::kUnsupportedModel);
  EXPECT_NE(error.message().find("cannot be folded"), std::string::npos) << error.message();
}

}  // namespace
}  // namespace tsquant::testing::qat_norms

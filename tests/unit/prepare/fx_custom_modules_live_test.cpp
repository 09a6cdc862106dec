// A custom module in torch.ao and here, on one machine: what is prepared and what is converted computes the same.
#include <ATen/Parallel.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <tsquant/fx/quantize_fx.h>
#include <tsquant/observer_module.h>
#include <tsquant/tsquant.h>

#include "graph/module_calls.h"
#include "support/support.h"
#include "unit/prepare/python_records.h"

namespace tsquant::testing::fx_custom_modules_live {
namespace {

namespace fx = tsquant::fx;
using torch::jit::Module;

Module block_of(const char* name, const Module& from, const char* source) {
  Module module(c10::QualifiedName(std::string("__torch__.models.") + name),
                std::make_shared<torch::jit::CompilationUnit>(), true);
  module.register_parameter("weight", from.attr("weight").toTensor().detach(), false);
  if (from.hasattr("activation_post_process")) {
    const auto q = calculate_qparams(from.attr("activation_post_process").toModule());
    module.register_attribute("scale", c10::FloatType::get(), q.scale.item<double>());
    module.register_attribute("zero_point", c10::IntType::get(), q.zero_point.item<int64_t>());
  }
  module.define(source);
  return module;
}

Module observed_block(const Module& block) {
  return block_of("ObservedBlock", block, R"(
def forward(self, x, factor: float):
    return torch.relu(torch.conv2d(x, self.weight)) * factor + x
)");
}

/// As python_custom_module.py has it.
Module quantized_block(const Module& observed) {
  return block_of("QuantizedBlock", observed, R"(
def forward(self, x, factor: float):
    r = x.dequantize()
    y = torch.relu(torch.conv2d(r, self.weight)) * factor + r
    return torch.quantize_per_tensor(y, self.scale, self.zero_point, 13)
)");
}

class FxCustomModulesLive : public ::testing::TestWithParam<bool> {
 protected:
  void SetUp() override { at::set_num_threads(1); }  // as the script
  void TearDown() override { at::set_num_threads(threads_); }

  int threads_ = at::get_num_threads();
};

double error(const at::Tensor& actual, const at::Tensor& expected) {
  return (actual - expected).abs().max().item<double>();
}

// torch.ao's fuse_fx traces through custom modules, so that its prepare_fx finds none behind it. Here both orders give
// what it gives without fuse_fx.
TEST_P(FxCustomModulesLive, ComputesWhatTorchAoComputes) {
  const std::string path = temp_dir() + "/float.pt";
  const auto records = python_records("python_custom_module.py", path);
  if (records.empty()) GTEST_SKIP() << "Python has no torch";
  EXPECT_EQ(records.at("modules_after_fusing").item<int64_t>(), 0);
  const at::NoGradGuard no_grad;
  Model model = Model::load(path);
  if (GetParam()) model = fx::fuse_fx(model);
  fx::QConfig qconfig;
  qconfig.weight = fx::get_default_qconfig("onednn").weight;
  const auto custom = fx::PrepareCustomConfig().set_float_to_observed_mapping("Block", observed_block);
  auto prepared =
      fx::prepare_fx(model, fx::QConfigMapping().set_global(qconfig), {{records.at("sample/0")}, {}}, custom);
  for (int i = 0; i < 4; ++i) {
    const at::Tensor result = prepared.forward({records.at(fmt::format("sample/{}", i))}).toTensor();
    EXPECT_LE(error(result, records.at(fmt::format("prepared/{}", i))), 1e-5);
  }
  fx::ConvertFxOptions options;
  options.convert_custom_config.set_observed_to_quantized_mapping("ObservedBlock", quantized_block);
  const auto converted = fx::convert_to_reference_fx(prepared, options);
  const auto quantized = converted.model.module().attr(std::string(kOpaquePrefix) + "0").toModule();
  EXPECT_NEAR(quantized.attr("scale").toDouble() / records.at("scale").item<double>(), 1, 1e-6);
  EXPECT_EQ(quantized.attr("zero_point").toInt(), records.at("zero_point").item<int64_t>());
  EXPECT_LE(error(converted.model.run({{records.at("sample/0")}, {}}).toTensor(), records.at("reference")), 1e-5);
}

INSTANTIATE_TEST_SUITE_P(fused, FxCustomModulesLive, ::testing::Bool());

}  // namespace
}  // namespace tsquant::testing::fx_custom_modules_live

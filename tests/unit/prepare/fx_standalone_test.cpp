// Standalone modules with a custom configuration of their own.
#include <gtest/gtest.h>
#include <tsquant/fx/quantize_fx.h>
#include <tsquant/tsquant.h>

#include <algorithm>
#include <memory>

#include "graph/module_calls.h"
#include "graph/node_lists.h"
#include "support/support.h"
#include "support/thrown_error.h"

namespace tsquant::testing::fx_standalone {
namespace {

namespace fx = tsquant::fx;
using torch::jit::Module;

Module net() {
  at::manual_seed(1);
  Module block("__torch__.models.Block", std::make_shared<torch::jit::CompilationUnit>(), true);
  block.register_parameter("w1", at::randn({8, 8, 1, 1}) * 0.3, false);
  block.register_parameter("w2", at::randn({8, 8, 1, 1}) * 0.3, false);
  block.define("def forward(self, x):\n    return torch.conv2d(torch.relu(torch.conv2d(x, self.w1)), self.w2)\n");
  return define(
      "def forward(self, x):\n"
      "    return torch.conv2d(self.block.forward(torch.conv2d(x, self.w1)), self.w2)\n",
      {{"w1", at::randn({8, 3, 3, 3}) * 0.3}, {"w2", at::randn({4, 8, 3, 3}) * 0.3}}, {{"block", block}});
}

Sample image() {
  at::manual_seed(2);
  return {{at::randn({2, 3, 12, 12})}, {}};
}

fx::QConfigMapping mapping() {
  fx::QConfig qconfig = fx::get_default_qconfig("onednn");
  qconfig.activation = ObserverConfig();
  return fx::QConfigMapping().set_global(qconfig);
}

fx::PrepareCustomConfig with(const fx::PrepareCustomConfig& own) {
  fx::StandaloneConfig config;
  config.prepare_custom_config = std::make_shared<fx::PrepareCustomConfig>(own);
  return fx::PrepareCustomConfig().set_standalone_module_name("block", config);
}

Module calibrated(const fx::PrepareCustomConfig& own, const Module& module = net()) {
  auto prepared = fx::prepare_fx(Model::from(module), mapping(), image(), with(own));
  prepared.forward(image().args);
  return prepared;
}

size_t observers(const Module& prepared) {
  return module_calls(*prepared.get_method("forward").graph(), "activation_post_process_").size();
}

Module part_of(const Module& module) { return module.attr(std::string(kOpaquePrefix) + "0").toModule(); }

void expect_near_float(const QuantizedModel& result) {
  const at::Tensor expected = net().forward(image().args).toTensor();
  const at::Tensor actual = result.model.run(image()).toTensor();
  EXPECT_LT(((actual - expected).norm() / expected.norm()).item<double>(), 0.04);
  const std::string path = temp_dir() + "/model.pt";
  result.save(path);
  EXPECT_TRUE(at::equal(torch::jit::load(path).forward(image().args).toTensor(), actual));
}

TEST(FxStandalone, ThePartIsPreparedForItself) {
  const auto prepared = calibrated({});
  EXPECT_EQ(observers(prepared), 4U);  // the input, the result of the block, and both convolutions
  EXPECT_EQ(observers(part_of(prepared)), 3U);
  EXPECT_TRUE(is_prepared(part_of(prepared)));
  expect_near_float(fx::convert_to_reference_fx(prepared));
  const auto lowered = fx::convert_fx(prepared);
  expect_near_float(lowered);
  const auto& nodes = lowered.report.nodes;
  EXPECT_TRUE(std::any_of(nodes.begin(), nodes.end(), [](const NodeRecord& record) {
    return record.name == "block/conv2d/0" && record.quantized;
  }));
}

TEST(FxStandalone, CodesGoInAndComeOut) {
  const auto prepared =
      calibrated(fx::PrepareCustomConfig().set_input_quantized_indexes({0}).set_output_quantized_indexes({0}));
  EXPECT_EQ(observers(prepared), 3U);           // none behind the block
  EXPECT_EQ(observers(part_of(prepared)), 2U);  // none before its first convolution
  const auto result = fx::convert_to_reference_fx(prepared);
  expect_near_float(result);
  const auto calls = module_calls(*result.model.graph(), kOpaquePrefix);
  ASSERT_EQ(calls.size(), 1U);
  EXPECT_EQ(calls[0].node->input(1)->node()->kind().toQualString(), std::string("aten::quantize_per_tensor"));
  for (const auto& use : calls[0].node->output()->uses()) {
    EXPECT_EQ(use.user->kind().toQualString(), std::string("aten::dequantize"));
  }
}

TEST(FxStandalone, ItsOwnConfigurationCounts) {
  const auto left_alone = calibrated(fx::PrepareCustomConfig().set_non_traceable_module_names({""}));
  EXPECT_EQ(observers(part_of(left_alone)), 0U);
  const auto error =
      thrown_error([] { calibrated(fx::PrepareCustomConfig().set_non_traceable_module_names({"absent"})); });
  EXPECT_EQ(error.place(), "set_non_traceable_module_names");
}

TEST(FxStandalone, CodesNeedAQuantizerAroundTheModule) {
  fx::StandaloneConfig config;
  config.qconfig_mapping = mapping();
  config.prepare_custom_config =
      std::make_shared<fx::PrepareCustomConfig>(fx::PrepareCustomConfig().set_input_quantized_indexes({0}));
  auto prepared = fx::prepare_fx(Model::from(net()), fx::QConfigMapping(), image(),
                                 fx::PrepareCustomConfig().set_standalone_module_class("Block", config));
  prepared.forward(image().args);
  const auto error = thrown_error([&] { fx::convert_to_reference_fx(prepared); });
  EXPECT_EQ(error.place(), "block/custom_module/0");
  EXPECT_NE(error.message().find("is not quantized"), std::string::npos);
}

}  // namespace
}  // namespace tsquant::testing::fx_standalone

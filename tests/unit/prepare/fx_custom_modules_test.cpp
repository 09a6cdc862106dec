// Modules of a user's own with observed and quantized counterparts.
#include <gtest/gtest.h>
#include <tsquant/fx/quantize_fx.h>
#include <tsquant/observer_module.h>
#include <tsquant/tsquant.h>

#include <filesystem>

#include "graph/module_calls.h"
#include "graph/node_lists.h"
#include "support/support.h"
#include "support/thrown_error.h"

namespace tsquant::testing::fx_custom_modules {
namespace {

namespace fx = tsquant::fx;
using torch::jit::Module;

Module of_class(const std::string& name, const std::string& source,
                const std::vector<std::pair<std::string, at::Tensor>>& parameters = {}) {
  Module module(c10::QualifiedName("__torch__.models." + name), std::make_shared<torch::jit::CompilationUnit>(), true);
  for (const auto& [key, tensor] : parameters) module.register_parameter(key, tensor, false);
  module.define(source);
  return module;
}

at::Tensor values(std::vector<int64_t> shape, double scale = 0.3) {
  at::manual_seed(static_cast<int64_t>(shape.size()) + 4);
  return at::randn(shape) * scale;
}

/// A convolution, a module of the user's own with layers in it, and a convolution.
Module net(const std::string& forward = R"(
def forward(self, x):
    y = torch.conv2d(x, self.w1)
    z = self.block.forward(y, 2.0)
    return torch.conv2d(z, self.w2)
)") {
  const auto block = of_class("Block", R"(
def forward(self, x, factor: float):
    y = torch.relu(torch.conv2d(x, self.weight))
    return y * factor + x
)",
                              {{"weight", values({8, 8, 1, 1})}});
  return define(forward, {{"w1", values({8, 3, 3, 3})}, {"w2", values({4, 8, 3, 3})}}, {{"block", block}});
}

at::Tensor image(int64_t seed = 2) {
  at::manual_seed(seed);
  return at::randn({2, 3, 12, 12});
}

fx::QConfigMapping mapping() {
  fx::QConfig qconfig = fx::get_default_qconfig("onednn");
  qconfig.activation = ObserverConfig();
  return fx::QConfigMapping().set_global(qconfig);
}

Module make_observed(const Module& block) {
  return of_class("ObservedBlock", R"(
def forward(self, x, factor: float):
    y = torch.relu(torch.conv2d(x, self.weight))
    return y * factor + x
)",
                  {{"weight", block.attr("weight").toTensor()}});
}

/// Computes in float between codes.
Module make_quantized(const Module& observed) {
  const auto q = calculate_qparams(observed.attr("activation_post_process").toModule());
  Module module(c10::QualifiedName("__torch__.models.QuantizedBlock"), std::make_shared<torch::jit::CompilationUnit>(),
                true);
  module.register_parameter("weight", observed.attr("weight").toTensor(), false);
  module.register_attribute("scale", c10::FloatType::get(), q.scale.item<double>());
  module.register_attribute("zero_point", c10::IntType::get(), q.zero_point.item<int64_t>());
  module.define(R"(
def forward(self, x, factor: float):
    r = torch.dequantize(x)
    y = torch.relu(torch.conv2d(r, self.weight)) * factor + r
    return torch.quantize_per_tensor(y, self.scale, self.zero_point, 13)
)");
  return module;
}

fx::PrepareCustomConfig prepare_config(fx::QuantType type = fx::QuantType::kStatic) {
  return fx::PrepareCustomConfig().set_float_to_observed_mapping("Block", make_observed, type);
}

fx::ConvertFxOptions convert_options() {
  fx::ConvertFxOptions options;
  options.convert_custom_config.set_observed_to_quantized_mapping("ObservedBlock", make_quantized);
  return options;
}

Module calibrated(const Module& module, const fx::QConfigMapping& told = mapping(),
                  const fx::PrepareCustomConfig& custom = prepare_config()) {
  auto prepared = fx::prepare_fx(Model::from(module), told, {{image()}, {}}, custom);
  for (int64_t seed = 2; seed < 6; ++seed) prepared.forward({image(seed)});
  return prepared;
}

double relative_error(const at::Tensor& actual, const at::Tensor& expected) {
  return ((actual - expected).norm() / expected.norm()).item<double>();
}

std::vector<torch::jit::Node*> calls_in(const Model& model) {
  std::vector<torch::jit::Node*> calls;
  for (auto* node : all_nodes(model.graph()->block())) {
    if (is_opaque_call(node)) calls.push_back(node);
  }
  return calls;
}

size_t count(const Model& model, const char* kind) { return nodes_of_kind(model.graph()->block(), {kind}).size(); }

TEST(FxCustomModules, TheObservedModuleStandsInThePreparedModel) {
  const auto prepared = calibrated(net());
  EXPECT_LT(relative_error(Module(prepared).forward({image()}).toTensor(), net().forward({image()}).toTensor()), 1e-6);
  const auto graph = prepared.get_method("forward").graph();
  EXPECT_EQ(module_calls(*graph, kOpaquePrefix).size(), 1U);
  EXPECT_EQ(nodes_of_kind(graph->block(), {"aten::conv2d", "aten::_convolution"}).size(), 2U);  // not the block's own
  // The input of the model and the results of the three operators.
  EXPECT_EQ(module_calls(*graph, "activation_post_process_").size(), 4U);
}

TEST(FxCustomModules, TheQuantizedModuleTakesAndGivesCodes) {
  const auto prepared = calibrated(net());
  const auto result = fx::convert_to_reference_fx(prepared, convert_options());
  const auto calls = calls_in(result.model);
  ASSERT_EQ(calls.size(), 1U);
  EXPECT_EQ(calls[0]->input(1)->node()->kind().toQualString(), std::string("aten::quantize_per_tensor"));
  for (const auto& use : calls[0]->output()->uses()) {
    EXPECT_EQ(use.user->kind().toQualString(), std::string("aten::dequantize"));
  }
  EXPECT_EQ(count(result.model, "aten::quantize_per_tensor"), 3U);  // of all but the block's result
  const at::Tensor expected = net().forward({image()}).toTensor();
  EXPECT_LT(relative_error(result.model.run({{image()}, {}}).toTensor(), expected), 0.03);
  EXPECT_TRUE(result.report.nodes.at(1).name == "block/custom_module/0" && result.report.nodes[1].quantized);
}

TEST(FxCustomModules, EveryFormRunsAndLoads) {
  const auto prepared = calibrated(net());
  const auto reference = fx::convert_to_reference_fx(prepared, convert_options());
  const at::Tensor expected = reference.model.run({{image()}, {}}).toTensor();
  const auto lowered = fx::convert_fx(prepared, convert_options());
  EXPECT_EQ(count(lowered.model, "aten::conv2d"), 0U);
  for (const auto& result : {reference, lowered, fx::convert_to_reference_decomposed_fx(prepared, convert_options())}) {
    SCOPED_TRACE(result.report.form);
    const std::string path = temp_dir() + "/" + result.report.form + ".pt";
    result.save(path);
    EXPECT_LT(relative_error(torch::jit::load(path).forward({image()}).toTensor(), expected), 0.01);
    EXPECT_EQ(calls_in(Model::load(path)).size(), 1U);
    EXPECT_TRUE(at::equal(Model::load(path).run({{image()}, {}}).toTensor(),
                          torch::jit::load(path).forward({image()}).toTensor()));
  }
}

TEST(FxCustomModules, ThePreparedModelMayBeSavedInBetween) {
  const std::string path = temp_dir() + "/prepared.pt";
  const auto prepared = calibrated(net());
  prepared.save(path);
  const auto loaded = fx::convert_to_reference_fx(torch::jit::load(path), convert_options());
  const auto direct = fx::convert_to_reference_fx(prepared, convert_options());
  EXPECT_TRUE(at::equal(loaded.model.run({{image()}, {}}).toTensor(), direct.model.run({{image()}, {}}).toTensor()));
}

TEST(FxCustomModules, WithoutAQuantizedClassTheObservedOneStays) {
  const auto result = fx::convert_to_reference_fx(calibrated(net()));
  ASSERT_EQ(calls_in(result.model).size(), 1U);
  EXPECT_EQ(count(result.model, "aten::quantize_per_tensor"), 4U);
  EXPECT_LT(relative_error(result.model.run({{image()}, {}}).toTensor(), net().forward({image()}).toTensor()), 0.03);
}

TEST(FxCustomModules, OthersThanStaticOnesComputeOnFloats) {
  const std::pair<fx::QuantType, fx::QConfig> types[] = {
      {fx::QuantType::kDynamic, fx::default_dynamic_qconfig()},
      {fx::QuantType::kWeightOnly, fx::default_weight_only_qconfig()}};
  for (const auto& [type, qconfig] : types) {
    auto told = mapping();
    told.set_module_name("block", qconfig);
    const auto prepared = calibrated(net(), told, prepare_config(type));
    // The last convolution observes what it reads.
    EXPECT_EQ(module_calls(*prepared.get_method("forward").graph(), "activation_post_process_").size(), 4U);
    fx::ConvertFxOptions options;
    options.convert_custom_config.set_observed_to_quantized_mapping(
        "ObservedBlock",
        [](const Module& observed) {
          EXPECT_FALSE(observed.hasattr("activation_post_process"));
          return of_class("IdleBlock", "def forward(self, x, factor: float):\n    return x * factor\n");
        },
        type);
    const auto result = fx::convert_to_reference_fx(prepared, options);
    ASSERT_EQ(calls_in(result.model).size(), 1U);
    EXPECT_NE(calls_in(result.model)[0]->input(1)->node()->kind().toQualString(),
              std::string("aten::quantize_per_tensor"));
    EXPECT_NO_THROW(result.model.run({{image()}, {}}));
    // A function for static modules alone does not fit.
    EXPECT_EQ(thrown_error([&] { fx::convert_to_reference_fx(prepared, convert_options()); }).place(),
              "set_observed_to_quantized_mapping");
    EXPECT_EQ(thrown_error([&] { calibrated(net(), told); }).place(), "set_float_to_observed_mapping");
  }
}

TEST(FxCustomModules, WithoutAQConfigTheyStayInFloat) {
  auto told = mapping();
  told.set_module_name("block", c10::nullopt);
  const auto custom = fx::PrepareCustomConfig().set_float_to_observed_mapping("Block", [](const Module& block) {
    ADD_FAILURE() << "the function was called";
    return block;
  });
  EXPECT_TRUE(calls_in(fx::convert_to_reference_fx(calibrated(net(), told, custom)).model).empty());
}

TEST(FxCustomModules, CallsInBranchesAndSeveralCallsAreFound) {
  const auto model = net(R"(
def forward(self, x):
    y = self.block.forward(torch.conv2d(x, self.w1), 1.5)
    if x.dim() == 4:
        z = self.block.forward(y, 2.0)
    else:
        z = y
    return torch.conv2d(z, self.w2)
)");
  const auto prepared = calibrated(model);
  EXPECT_EQ(module_calls(*prepared.get_method("forward").graph(), kOpaquePrefix).size(), 2U);
  EXPECT_LT(relative_error(Module(prepared).forward({image()}).toTensor(), Module(model).forward({image()}).toTensor()),
            1e-6);
  const auto result = fx::convert_to_reference_fx(prepared, convert_options());
  EXPECT_EQ(calls_in(result.model).size(), 2U);
}

TEST(FxCustomModules, FloatWeightsOfReplacedModulesAreNotWritten) {
  const auto block =
      of_class("Block", "def forward(self, x, factor: float):\n    return torch.linear(x, self.weight) * factor\n",
               {{"weight", values({256, 256})}});
  const auto model =
      define("def forward(self, x):\n    return self.block.forward(x, 1.0) + x\n", {}, {{"block", block}});
  const auto custom = fx::PrepareCustomConfig().set_float_to_observed_mapping("Block", [](const Module&) {
    return of_class("Small", "def forward(self, x, factor: float):\n    return x * factor\n");
  });
  auto prepared = fx::prepare_fx(Model::from(model), mapping(), {{values({2, 256})}, {}}, custom);
  prepared.forward({values({2, 256})});
  const std::string path = temp_dir() + "/model.pt";
  fx::convert_to_reference_fx(prepared).save(path);
  EXPECT_LT(std::filesystem::file_size(path), 100'000U);
  EXPECT_EQ(block.attr("weight").toTensor().numel(), 256 * 256);
}

TEST(FxCustomModules, WhatCannotBeCalledInsteadIsRefused) {
  const auto refused = [](const char* source) {
    const auto custom = fx::PrepareCustomConfig().set_float_to_observed_mapping(
        "Block", [source](const Module&) { return of_class("Wrong", source); });
    return thrown_error([&] { calibrated(net(), mapping(), custom); });
  };
  EXPECT_NE(refused("def other(self, x):\n    return x\n").message().find("has no forward"), std::string::npos);
  EXPECT_NE(refused("def forward(self, x):\n    return x\n").message().find("takes 1 arguments"), std::string::npos);
  EXPECT_NE(refused("def forward(self, x, f: float):\n    return x, f\n").message().find("does not return a tensor"),
            std::string::npos);
}

TEST(FxCustomModules, ModulesThatReturnSeveralTensorsOrWereRewrittenAreRefused) {
  const auto pair = of_class("Block", "def forward(self, x):\n    return torch.relu(x), x\n");
  const auto model =
      define("def forward(self, x):\n    y, z = self.block.forward(x)\n    return y + z\n", {}, {{"block", pair}});
  EXPECT_EQ(thrown_error([&] { calibrated(model); }).code(), ErrorCode::kUnsupportedModel);

  Model edited = Model::from(net());
  auto* relu = nodes_of_kind(edited.graph()->block(), {"aten::relu"}).at(0);
  relu->replaceWithNewSymbol(c10::aten::neg);
  relu->destroy();
  EXPECT_EQ(thrown_error([&] {
              fx::prepare_fx(edited, mapping(), {{image()}, {}}, prepare_config());
            }).message(),
            "the graph was rewritten after the model was captured");
}

Module net_with_norms() {
  const auto block = of_class("Block", R"(
def forward(self, x, factor: float):
    y = torch.batch_norm(torch.conv2d(x, self.weight), None, None, self.mean, self.var, False, 0.1, 1e-5, True)
    return torch.relu(y) * factor + x
)",
                              {{"weight", values({8, 8, 1, 1})}, {"mean", values({8})}, {"var", at::rand({8}) + 0.5}});
  return define(
      R"(
def forward(self, x):
    y = torch.batch_norm(torch.conv2d(x, self.w1), None, None, self.mean, self.var, False, 0.1, 1e-5, True)
    z = self.block.forward(torch.relu(y), 2.0)
    return torch.conv2d(z, self.w2)
)",
      {{"w1", values({8, 3, 3, 3})}, {"w2", values({4, 8, 3, 3})}, {"mean", values({8})}, {"var", at::rand({8}) + 0.5}},
      {{"block", block}});
}

at::Tensor reference_output(const Model& model, const fx::PrepareCustomConfig& custom) {
  auto prepared = fx::prepare_fx(model, mapping(), {{image()}, {}}, custom);
  for (int64_t seed = 2; seed < 6; ++seed) prepared.forward({image(seed)});
  const auto result = fx::convert_to_reference_fx(prepared, convert_options());
  EXPECT_EQ(calls_in(result.model).size(), 1U);
  return result.model.run({{image()}, {}}).toTensor();
}

TEST(FxCustomModules, AreFoundAfterFusingAsBefore) {
  const Model model = Model::from(net_with_norms());
  const Model fused = fx::fuse_fx(model);
  EXPECT_EQ(count(fused, "aten::batch_norm"), 0U);
  const auto custom = fx::PrepareCustomConfig().set_float_to_observed_mapping("Block", [](const Module& block) {
    EXPECT_FALSE(at::equal(block.attr("mean").toTensor(), at::zeros({8})));
    return make_observed(block);
  });
  const at::Tensor expected = reference_output(model, custom);
  EXPECT_TRUE(at::equal(reference_output(fused, custom), expected));
  EXPECT_TRUE(at::equal(reference_output(fx::fuse_fx(fused.clone()), custom), expected));
}

TEST(FxCustomModules, AFusedModelWithOtherWeightsIsRefused) {
  const auto message = [](const Model& model) {
    return thrown_error([&] { fx::prepare_fx(model, mapping(), {{image()}, {}}, prepare_config()); }).message();
  };
  const at::NoGradGuard no_grad;
  Model written = fx::fuse_fx(Model::from(net_with_norms()));
  written.module().attr("w2").toTensor().mul_(2);
  EXPECT_EQ(message(written), "tensors were changed after the model was fused");
  Model replaced = fx::fuse_fx(Model::from(net_with_norms()));
  replaced.module().setattr("w2", values({4, 8, 3, 3}));
  EXPECT_EQ(message(replaced), "tensors were changed after the model was fused");
}

TEST(FxCustomModules, OnlyCalibrationCountsInTheirOwnObservers) {
  const auto custom = fx::PrepareCustomConfig().set_float_to_observed_mapping("Block", [](const Module&) {
    Module observed("__torch__.models.Counting", std::make_shared<torch::jit::CompilationUnit>(), true);
    observed.register_buffer("calls", at::zeros({1}));
    observed.define("def forward(self, x, factor: float):\n    self.calls += 1\n    return x * factor\n");
    return observed;
  });
  const auto calls_of = [](const Module& prepared) {
    return prepared.attr(std::string(kOpaquePrefix) + "0").toModule().attr("calls").toTensor().item<int64_t>();
  };
  EXPECT_EQ(calls_of(fx::prepare_fx(Model::from(net()), mapping(), {{image()}, {}}, custom)), 0);
  const auto prepared = calibrated(net(), mapping(), custom);
  EXPECT_EQ(calls_of(prepared), 4);
  fx::ConvertFxOptions options;
  options.convert_custom_config.set_observed_to_quantized_mapping("Counting", [](const Module& observed) {
    EXPECT_EQ(observed.attr("calls").toTensor().item<int64_t>(), 4);
    return of_class("Relu", "def forward(self, x, factor: float):\n    return torch.relu(x)\n");
  });
  fx::convert_to_reference_fx(prepared, options);
  EXPECT_EQ(calls_of(prepared), 4);
}

TEST(FxCustomModules, TrainingKeepsThem) {
  auto prepared = fx::prepare_qat_fx(Model::from(net()), fx::get_default_qat_qconfig_mapping("onednn"), {{image()}, {}},
                                     prepare_config());
  prepared.forward({image()});
  const auto result = fx::convert_to_reference_fx(prepared, convert_options());
  EXPECT_EQ(calls_in(result.model).size(), 1U);
  EXPECT_LT(relative_error(result.model.run({{image()}, {}}).toTensor(), net().forward({image()}).toTensor()), 0.1);
}

}  // namespace
}  // namespace tsquant::testing::fx_custom_modules

// Bad or doubtful input to the FX flow: the probes that torch.ao 1.13.1 was asked (misc.json, "errors"), by their
// names. Each is a clear error here, or works.
#include <gtest/gtest.h>
#include <tsquant/fx/quantize_fx.h>
#include <tsquant/tsquant.h>

#include <functional>

#include "support/support.h"

namespace tsquant::testing::fx_probes {
namespace {

namespace fx = tsquant::fx;
using torch::jit::Module;

using Tensors = std::vector<std::pair<std::string, at::Tensor>>;

Module layer(const std::string& type, const std::string& source, const Tensors& parameters = {}) {
  Module module(c10::QualifiedName("__torch__.torch.nn.modules." + type),
                std::make_shared<torch::jit::CompilationUnit>(), true);
  for (const auto& [name, tensor] : parameters) module.register_parameter(name, tensor, false);
  module.define(source);
  return module;
}

Module linear_and_relu() {
  return define("def forward(self, x):\n    return self.act.forward(self.fc.forward(x))\n", {},
                {{"fc", layer("linear.Linear", "def forward(self, x):\n    return torch.linear(x, self.w)\n",
                              {{"w", at::randn({4, 4})}})},
                 {"act", layer("activation.ReLU", "def forward(self, x):\n    return torch.relu(x)\n")}});
}

/// A convolution, transposed or not, with a batch norm behind it that has factors or not.
Module conv_and_norm(const std::string& conv = "conv2d", bool is_affine = true) {
  Module module("Net", std::make_shared<torch::jit::CompilationUnit>());
  module.register_parameter("w", at::randn({4, 4, 3, 3}), false);
  module.register_buffer("mean", at::zeros({4}));
  module.register_buffer("var", at::ones({4}));
  if (is_affine) {
    module.register_parameter("g", at::ones({4}), false);
    module.register_parameter("b", at::zeros({4}), false);
  }
  const std::string factors = is_affine ? "self.g, self.b" : "None, None";
  module.define("def forward(self, x):\n    y = torch." + conv +
                "(x, self.w)\n    return torch.relu(torch.batch_norm(y, " + factors +
                ", self.mean, self.var, False, 0.1, 1e-5, True))\n");
  return module;
}

Module in_training(Module module) {
  module.register_attribute("training", c10::BoolType::get(), true);
  return module;
}

Module function(const std::string& expression) {
  return define("def forward(self, x):\n    return " + expression + "\n");
}

Sample image() { return {{at::randn({1, 4, 8, 8})}, {}}; }
Sample row() { return {{at::randn({2, 4})}, {}}; }

fx::QConfigMapping everywhere(const fx::OptionalQConfig& qconfig = fx::default_qconfig()) {
  return fx::QConfigMapping().set_global(qconfig);
}

Module calibrated(const Module& module, const Sample& sample, const fx::QConfigMapping& mapping = everywhere(),
                  const fx::PrepareCustomConfig& custom = {}) {
  auto prepared = fx::prepare_fx(Model::from(module), mapping, sample, custom);
  prepared.forward(sample.args);
  return prepared;
}

void convert(const Module& prepared, const c10::optional<fx::QConfigMapping>& mapping = c10::nullopt) {
  fx::ConvertFxOptions options;
  options.qconfig_mapping = mapping;
  fx::convert_fx(prepared, options).model.module();
}

void run(const Module& module, const Sample& sample, const fx::QConfigMapping& mapping = everywhere()) {
  fx::convert_fx(calibrated(module, sample, mapping)).model.run(sample);
}

void convert_with(const std::function<void(fx::QConfigMapping&)>& change) {
  auto mapping = fx::get_default_qconfig_mapping("onednn");
  const auto prepared = calibrated(conv_and_norm(), image(), mapping);
  change(mapping);
  convert(prepared, mapping);
}

void train(const Module& module, const Sample& sample) {
  auto prepared = fx::prepare_qat_fx(Model::from(module), fx::get_default_qat_qconfig_mapping("onednn"), sample);
  prepared.forward(sample.args);
  convert(prepared);
}

struct Probe {
  const char* name;
  std::function<void()> run;
  const char* code = nullptr;  ///< of the error; null: it works
  const char* told = "";       ///< part of its text
};

const std::vector<Probe>& probes() {
  static const std::vector<Probe> all = {
      {"fuse_fx_train_mode_conv_bn_relu",
       [] {
         CaptureOptions refuse;
         refuse.training_mode = TrainingMode::kRefuse;
         fx::fuse_fx(Model::from(in_training(conv_and_norm()), refuse));
       },
       "unsupported_model", "training mode"},
      // The model was captured in evaluation mode, with a warning.
      {"prepare_fx_train_mode", [] { run(in_training(conv_and_norm()), image()); }},
      {"prepare_qat_fx_eval_mode", [] { train(conv_and_norm(), image()); }},
      {"convert_fx_on_plain_module", [] { convert(conv_and_norm()); }, "invalid_argument", "prepared"},
      {"convert_fx_on_unprepared_graph_module", [] { convert(Model::from(conv_and_norm()).finished_module()); },
       "invalid_argument", "prepared"},
      // torch.ao cannot trace it, TorchScript has it as prim::If.
      {"data_dependent_control_flow",
       [] {
         run(define("def forward(self, x):\n    if bool(x.sum() > 0):\n        return x + x\n    return x * x\n"),
             row());
       }},
      {"fixed_qparams_op_with_plain_qconfig", [] { run(function("torch.sigmoid(x)"), row()); }, "invalid_argument",
       "fixed range"},
      {"fixed_qparams_op_qconfig_none",
       [] { run(function("torch.sigmoid(x)"), row(), everywhere().set_object_type("sigmoid", c10::nullopt)); }},
      {"fused_types_different_qconfig",
       [] {
         run(linear_and_relu(), row(),
             everywhere().set_object_type("torch.nn.Linear", fx::default_per_channel_qconfig()));
       },
       "invalid_argument", "computed as one"},
      {"conv_transpose_per_channel",
       [] { run(conv_and_norm("conv_transpose2d"), image(), everywhere(fx::default_per_channel_qconfig())); },
       "invalid_argument", "transposed"},
      // Observers are values here; only JSON can hold something else.
      {"qconfig_with_observer_instance", [] { fx::qconfig_from_json(R"({"activation": 3, "weight": 3})"); },
       "invalid_argument"},
      {"output_quantized_index_1", [] { fx::PrepareCustomConfig().set_output_quantized_indexes({1}); },
       "invalid_argument", "the indexes are 1"},
      {"output_quantized_no_qconfig",
       [] {
         calibrated(conv_and_norm(), image(), everywhere(c10::nullopt),
                    fx::PrepareCustomConfig().set_output_quantized_indexes({0}));
       },
       "invalid_argument", "no qconfig"},
      {"convert_mapping_missing_key",
       [] { convert_with([](auto& mapping) { mapping = everywhere(mapping.global_qconfig()); }); }, "invalid_argument",
       "is missing"},
      {"convert_mapping_same", [] { convert_with([](auto&) {}); }},
      {"convert_mapping_different_value",
       [] { convert_with([](auto& mapping) { mapping.set_object_type("conv2d", fx::default_qconfig()); }); },
       "invalid_argument", "prepared"},
      {"convert_mapping_extra_none",
       [] { convert_with([](auto& mapping) { mapping.set_object_type("gelu", c10::nullopt); }); }},
      {"convert_mapping_extra_value",
       [] { convert_with([](auto& mapping) { mapping.set_module_name("conv4", fx::default_qconfig()); }); },
       "invalid_argument", "conv4"},
      // Custom configurations have setters of these types; what can come as text is the mapping in them.
      {"prepare_custom_config_dict_wrong_type", [] { fx::QConfigMapping::from_json("3"); }, "invalid_argument"},
      {"backend_config_dict_bad", [] { fx::BackendConfig::from_json("3"); }, "invalid_argument"},
      {"backend_pattern_without_pattern",
       [] { fx::BackendConfig().set_backend_pattern_config(fx::BackendPatternConfig()); }, "invalid_argument",
       "no pattern"},
      {"dtype_config_bad_type",
       [] {
         fx::BackendConfig::from_json(
             R"({"name": "b", "configs": [{"pattern": ["relu"], "dtype_configs": [{"input_dtype": "quint9"}]}]})");
       },
       "invalid_argument", "quint9"},
      {"unknown_backend_name", [] { fx::get_default_qconfig_mapping("nonsense"); }, "invalid_argument", "nonsense"},
      {"bad_version", [] { fx::get_default_qconfig("x86", 1); }, "invalid_argument", "1"},
      // torch.ao does not look at the example inputs.
      {"example_inputs_wrong",
       [] {
         calibrated(conv_and_norm(), {{std::string("junk")}, {}});
       },
       "dataset"},
      // torch.ao warns and gives every tensor the scale 1.
      {"convert_without_calibration",
       [] { convert(fx::prepare_fx(Model::from(conv_and_norm()), everywhere(), image())); }, "calibration",
       "has seen data"},
      {"standalone_tuple_output",
       [] { fx::prepare_standalone_module_fx(Model::from(function("(torch.relu(x), x)")), everywhere(), row()); },
       "unsupported_model", "one tensor"},
      // These two train here: the norm is folded, also without factors and into a transposed convolution.
      {"qat_bn_not_affine", [] { train(conv_and_norm("conv2d", /*is_affine=*/false), image()); }},
      {"qat_convtranspose_bn",
       [] {
         auto prepared = fx::prepare_qat_fx(Model::from(conv_and_norm("conv_transpose2d")),
                                            fx::get_default_qat_qconfig_mapping("x86"), image());
         prepared.forward(image().args);
         convert(prepared);
       }},
      {"lowering_functional_conv_with_kwargs",
       [] {
         run(define("def forward(self, x):\n    return torch.conv2d(x, weight=self.w, padding=[1, 1])\n",
                    {{"w", at::randn({4, 4, 3, 3})}}),
             image());
       }},
      // torch.ao has custom modules for static quantization only.
      {"float_to_observed_dynamic",
       [] {
         fx::PrepareCustomConfig().set_float_to_observed_mapping(
             "Block", [](const Module& module) { return module; }, fx::QuantType::kDynamic);
       }},
      {"preserved_attribute_missing_on_model",
       [] {
         calibrated(conv_and_norm(), image(), everywhere(),
                    fx::PrepareCustomConfig().set_preserved_attributes({"absent"}));
       },
       "invalid_argument", "absent"},
  };
  return all;
}

/// What a probe ended with: the code and text of an Error, or nothing.
std::pair<std::string, std::string> end_of(const Probe& probe) {
  try {
    probe.run();
  } catch (const Error& error) {
    return {to_string(error.code()), error.what()};
  } catch (const std::exception& error) {
    return {"another exception", error.what()};
  }
  return {};
}

TEST(FxProbes, EachIsAClearErrorOrWorks) {
  at::manual_seed(1);
  ASSERT_EQ(probes().size(), 32U);
  for (const auto& probe : probes()) {
    const auto [code, text] = end_of(probe);
    EXPECT_EQ(code, probe.code ? probe.code : "") << probe.name << ": " << text;
    EXPECT_NE(text.find(probe.told), std::string::npos) << probe.name << ": " << text;
  }
}

}  // namespace
}  // namespace tsquant::testing::fx_probes

#include "tsquant/fx/qconfig_mapping.h"

#include <gtest/gtest.h>

#include <map>

#include "fx_golden.h"
#include "fx_modules.h"
#include "passes/rewrite_runner.h"
#include "quantizers/fx/match_plans.h"

namespace tsquant::testing {
namespace {

using Labels = std::map<std::string, c10::optional<int64_t>>;

/// A qconfig that is told from others by its label.
fx::QConfig labelled(int64_t label) {
  auto qconfig = fx::default_qconfig();
  qconfig.activation.averaging_constant = static_cast<double>(label);
  return qconfig;
}

torch::jit::Module sub() {
  return of_class("models.Sub", R"(
def forward(self, x):
    return self.fc2.forward(self.relu.forward(self.fc.forward(x))) + x
)",
                  {}, {{"fc", linear_layer(4, 4)}, {"relu", relu_layer()}, {"fc2", linear_layer(4, 4)}});
}

/// The model of the references (misc.json, qconfig_precedence).
torch::jit::Module precedence_model() {
  const auto nested =
      of_class("models.Nested", "def forward(self, x):\n    return self.deep.forward(x)\n", {}, {{"deep", sub()}});
  return of_class(
      "models.Root", R"(
def forward(self, x):
    y = self.nested.forward(self.b.forward(self.a.forward(x)))
    y = self.fc.forward(torch.linear(torch.linear(y, self.w), self.w))
    z = self.conv1.forward(torch.unsqueeze(y, 2))
    z = torch.squeeze(z, 2)
    return z * z + z
)",
      {{"w", at::ones({4, 4})}},
      {{"a", sub()}, {"b", sub()}, {"nested", nested}, {"fc", linear_layer(4, 4)}, {"conv1", conv1d_layer(4, 4)}});
}

/// Labels by FX's names of the operators.
Labels labels_of(const fx::QConfigMapping& mapping) {
  static const std::vector<std::string> names{"a_fc",
                                              "a_relu",
                                              "a_fc2",
                                              "add",
                                              "b_fc",
                                              "b_relu",
                                              "b_fc2",
                                              "add_1",
                                              "nested_deep_fc",
                                              "",
                                              "nested_deep_fc2",
                                              "add_2",
                                              "linear",
                                              "linear_1",
                                              "fc",
                                              "unsqueeze",
                                              "conv1",
                                              "squeeze",
                                              "mul",
                                              "add_3"};
  Model model = Model::from(precedence_model());
  run_passes(model);
  const GraphView view(model);
  const auto backend = fx::get_native_backend_config();
  const fx::GraphPlan plan(view, mapping, {}, backend);
  Labels labels;
  size_t index = 0;
  for (const auto& node : view.nodes()) {
    if (node.kind != NodeKind::kOperator) continue;
    const auto& qconfig = plan.qconfig(node.id);
    labels[names.at(index++)] =
        qconfig ? c10::make_optional(static_cast<int64_t>(qconfig->activation.averaging_constant)) : c10::nullopt;
  }
  EXPECT_EQ(index, names.size());
  return labels;
}

void expect_golden(const fx::QConfigMapping& mapping, const std::string& golden) {
  const Labels labels = labels_of(mapping);
  for (const auto& [name, label] : fx_golden()["precedence"][golden]["node_label"].items()) {
    if (!labels.count(name)) continue;  // inputs, outputs and parameters
    // It is torch.add there, which an entry for operator.add does not reach; here both are aten::add.
    if (golden == "type_over_global" && name == "add_3") continue;
    EXPECT_EQ(labels.at(name), label.is_null() ? c10::nullopt : c10::make_optional(label.get<int64_t>()))
        << golden << " " << name;
  }
}

fx::QConfigMapping with_global() {
  fx::QConfigMapping mapping;
  return mapping.set_global(labelled(10));
}

TEST(FxQConfigMapping, precedence_is_torch_ao_s) {
  expect_golden(with_global(), "global");
  expect_golden(with_global()
                    .set_object_type("torch.nn.Linear", labelled(20))
                    .set_object_type("torch.nn.functional.linear", labelled(21))
                    .set_object_type("operator.add", labelled(22))
                    .set_object_type("squeeze", labelled(23))
                    .set_object_type("ReLU", labelled(20)),
                "type_over_global");
  expect_golden(with_global()
                    .set_object_type("torch.nn.modules.linear.Linear", labelled(20))
                    .set_object_type("torch.nn.ReLU", labelled(20))
                    .set_module_name_regex("a\\.fc", labelled(30))
                    .set_module_name_regex("a\\..*", labelled(31)),
                "regex_over_type");
  expect_golden(with_global()
                    .set_module_name_regex("a.*", labelled(30))
                    .set_module_name("a.fc", labelled(40))
                    .set_module_name("nested", labelled(41))
                    .set_module_name("nested.deep.fc", c10::nullopt),
                "name_over_regex");
  expect_golden(with_global()
                    .set_module_name("a", labelled(40))
                    .set_module_name_object_type_order("", "F.linear", 1, labelled(50))
                    .set_module_name_object_type_order("a", "Linear", 1, labelled(51))
                    .set_module_name_object_type_order("a", "_operator.add", 0, labelled(52)),
                "order_over_name");
  expect_golden(with_global().set_object_type("Sub", labelled(60)), "submodule_type");
  expect_golden(fx::QConfigMapping().set_object_type("Linear", labelled(20)).set_object_type("ReLU", labelled(20)),
                "global_none_type_set_both");
}

TEST(FxQConfigMapping, layers_of_a_fused_pattern_must_agree) {
  const Error error = thrown_by([] { labels_of(fx::QConfigMapping().set_object_type("Linear", labelled(20))); });
  EXPECT_EQ(
      error.message(),
      "a/fc/linear/0 and a/relu/relu/0 are computed as one, but the mapping has different qconfigs for linear and "
      "relu");
  EXPECT_EQ(thrown_by([] {
              auto mapping = fx::get_default_qconfig_mapping("onednn");
              labels_of(mapping.set_object_type("Linear", c10::nullopt));
            }).place(),
            "set_object_type");
}

TEST(FxQConfigMapping, bare_names_are_operators_wherever_they_stand) {
  const Labels bare = labels_of(with_global().set_object_type("add", labelled(20)));
  EXPECT_EQ(bare.at("add_1"), 20);
  for (const char* name : {"aten::linear", "linear", "torch.ops.aten.linear.default", "aten.linear"}) {
    const Labels all =
        labels_of(with_global().set_object_type(name, labelled(20)).set_object_type("relu_", labelled(20)));
    for (const char* node : {"a_fc", "linear", "linear_1", "fc", "a_relu"}) EXPECT_EQ(all.at(node), 20) << name;
    EXPECT_EQ(all.at("conv1"), 10);
  }
}

TEST(FxQConfigMapping, the_type_that_was_set_last_counts) {
  const auto set = [](const char* first, const char* second) {
    return labels_of(with_global()
                         .set_object_type("relu", labelled(21))
                         .set_object_type(first, labelled(20))
                         .set_object_type(second, labelled(21)))
        .at("fc");
  };
  EXPECT_EQ(set("Linear", "linear"), 21);
  EXPECT_EQ(set("linear", "torch.nn.Linear"), 21);
  EXPECT_EQ(set("linear", "aten::linear"), 21);
}

TEST(FxQConfigMapping, modules_that_do_not_exist_are_refused) {
  const Error error = thrown_by([] { labels_of(with_global().set_module_name("nested.dep", c10::nullopt)); });
  EXPECT_EQ(error.message(), "the model has no module \"nested.dep\"");
  EXPECT_EQ(error.advice().rfind("closest: nested.deep", 0), 0u);
  EXPECT_EQ(thrown_by([] {
              labels_of(with_global().set_module_name_object_type_order("c", "add", 0, c10::nullopt));
            }).place(),
            "set_module_name_object_type_order");
}

TEST(FxQConfigMapping, what_cannot_be_a_key_is_refused) {
  fx::QConfigMapping mapping;
  const Error type = thrown_by([&] { mapping.set_object_type("torch.nn.functional.conv2dd", c10::nullopt); });
  EXPECT_EQ(type.message(), "LibTorch has no operator \"conv2dd\"");
  EXPECT_EQ(type.advice().rfind("closest: conv2d", 0), 0u);
  EXPECT_EQ(thrown_by([&] { mapping.set_module_name_regex("a(", c10::nullopt); }).place(), "set_module_name_regex");
  EXPECT_EQ(thrown_by([&] { mapping.set_module_name_object_type_order("", "add", -1, c10::nullopt); }).message(),
            "the index is -1");
  EXPECT_EQ(mapping, fx::QConfigMapping());
}

TEST(FxQConfigMapping, json_keeps_the_mapping) {
  for (const std::string backend : {"x86", "qnnpack"}) {
    for (auto mapping : {fx::get_default_qconfig_mapping(backend), fx::get_default_qat_qconfig_mapping(backend)}) {
      mapping.set_module_name("a", c10::nullopt)
          .set_module_name_regex("b.*", labelled(3))
          .set_module_name_object_type_order("a.b", "F.linear", 2, labelled(4));
      const auto again = fx::QConfigMapping::from_json(mapping.to_json());
      EXPECT_EQ(again, mapping) << backend;
      EXPECT_EQ(again.to_json(), mapping.to_json()) << backend;
    }
  }
  EXPECT_NE(fx::get_default_qconfig_mapping("x86"), fx::get_default_qconfig_mapping("onednn"));
}

TEST(FxQConfigMapping, wrong_json_is_refused_with_its_place) {
  const auto refused = [](const char* text) { return thrown_by([&] { fx::QConfigMapping::from_json(text); }); };
  const Error key = refused(R"({"object_types": []})");
  EXPECT_EQ(key.place(), "qconfig_mapping.object_types");
  EXPECT_EQ(key.advice().rfind("closest: object_type", 0), 0u);
  EXPECT_EQ(refused(R"({"module_name": [["a"]]})").place(), "qconfig_mapping.module_name[0]");
  EXPECT_EQ(refused(R"({"module_name": [[1, null]]})").message(), "1 stands where a name belongs");
  EXPECT_EQ(refused(R"({"module_name": {"a": null}})").message(), R"({"a":null} stands where a list belongs)");
  EXPECT_EQ(refused("{").message().rfind("this is no JSON", 0), 0u);
  // Copies of it would overflow the stack.
  const std::string deep = R"({"": )" + std::string(100000, '[') + std::string(100000, ']') + "}";
  EXPECT_NE(refused(deep.c_str()).message().find("nested too deeply"), std::string::npos);
}

TEST(FxQConfigMapping, the_nameless_key_can_be_read_in_advice) {
  const Error key = thrown_by([&] { fx::QConfigMapping::from_json(R"({"g": null})"); });
  EXPECT_EQ(key.advice().rfind("closest: \"\" (", 0), 0u) << key.advice();
}

TEST(FxQConfigMapping, positions_and_expressions_that_fit_nothing_are_refused) {
  const Error position =
      thrown_by([] { labels_of(with_global().set_module_name_object_type_order("", "F.linear", 2, labelled(1))); });
  EXPECT_EQ(position.message(),
            "the model itself calls 2 operators of type torch.linear, so there is none with index 2");
  EXPECT_EQ(position.place(), "set_module_name_object_type_order");
  const Error nested =
      thrown_by([] { labels_of(with_global().set_module_name_object_type_order("a", "Conv2d", 0, labelled(1))); });
  EXPECT_NE(nested.message().find("module \"a\" calls 0 operators of type"), std::string::npos) << nested.message();
  const Error regex = thrown_by([] { labels_of(with_global().set_module_name_regex("deep\\.fc", labelled(1))); });
  EXPECT_EQ(regex.message(), "no path of a module begins as the expression \"deep\\.fc\" says");
  EXPECT_NO_THROW(labels_of(with_global().set_module_name_regex("nested\\.deep\\.fc", labelled(1))));
}

TEST(FxQConfigMapping, defaults_know_what_is_special) {
  const auto mapping = fx::get_default_qconfig_mapping("x86");
  std::map<std::string, fx::OptionalQConfig> types(mapping.object_type_qconfigs().begin(),
                                                   mapping.object_type_qconfigs().end());
  EXPECT_EQ(mapping.global_qconfig(), fx::get_default_qconfig("x86"));
  EXPECT_EQ(types.at("reshape"), fx::default_reuse_input_qconfig());
  EXPECT_EQ(types.at("conv_transpose2d")->weight, fx::default_qconfig().weight);
  EXPECT_EQ(types.at("tanh")->activation, fx::default_fixed_qparams_range_neg1to1_observer());
  EXPECT_EQ(types.at("torch.nn.Softmax")->activation, fx::default_fixed_qparams_range_0to1_observer());
  EXPECT_EQ(types.at("layer_norm")->weight.dtype, c10::kFloat);
  const auto onednn = fx::get_default_qconfig_mapping("onednn");
  for (const auto& [type, qconfig] : onednn.object_type_qconfigs()) {
    if (type == "conv_transpose2d") EXPECT_EQ(qconfig->weight, fx::get_default_qconfig("onednn").weight);
  }
}

}  // namespace
}  // namespace tsquant::testing

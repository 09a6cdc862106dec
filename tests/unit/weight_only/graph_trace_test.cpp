#include "graph/node_lists.h"
#include "support/thrown_error.h"
#include "test_models.h"
#include "tsquant/weight_only.h"
#include "weight_only/scoped_inline.h"

namespace tsquant::testing {
namespace {

using torch::jit::Module;
using Names = std::vector<std::string>;

Sample example_of(const std::string& model) { return {{model_array(model + ".example")}, {}}; }

class AbsorbLayersOf : public ::testing::TestWithParam<const char*> {};

TEST_P(AbsorbLayersOf, HasTheOperatorsOfPythonsTrace) {
  const std::string name = GetParam();
  GraphTrace tracer;
  const auto graph = tracer.trace(traced(name), example_of(name));
  ASSERT_TRUE(graph);
  std::vector<std::vector<std::string>> kinds;
  for (const auto* node : all_nodes(graph->block())) {
    if (node->kind().is_aten()) kinds.push_back({node->kind().toQualString(), module_name_of(node)});
  }
  // Files do not keep all bookkeeping that a trace in memory has, so the operators that matter are compared.
  const auto matters = [&](const std::vector<std::string>& entry) {
    const auto& known = tracer.could_absorb_layers;
    const auto& skipped = tracer.skip_ops_to_find_absorb;
    return std::find(known.begin(), known.end(), entry[0]) != known.end() ||
           std::find(skipped.begin(), skipped.end(), entry[0]) != skipped.end();
  };
  std::vector<std::vector<std::string>> actual, expected;
  std::copy_if(kinds.begin(), kinds.end(), std::back_inserter(actual), matters);
  const auto golden = expected_of(name);
  for (const auto& entry : golden["graph_kinds_after_freeze"]) {
    const auto pair = entry.get<std::vector<std::string>>();
    if (matters(pair)) expected.push_back(pair);
  }
  EXPECT_GT(expected.size(), 10u);
  EXPECT_EQ(actual, expected);
}

TEST_P(AbsorbLayersOf, AreNeuralCompressors) {
  const std::string name = GetParam();
  const auto golden = expected_of(name);
  ASSERT_FALSE(golden["get_absorb_layers"].empty());
  for (const auto& run : golden["get_absorb_layers"]) {
    const auto layers = get_absorb_layers(traced(name), example_of(name), run["supported_layers"].get<Names>());
    const std::map<std::string, Names> table(layers.absorb_to_layer.begin(), layers.absorb_to_layer.end());
    EXPECT_EQ(table, (run["absorb_to_layer"].get<std::map<std::string, Names>>())) << run["supported_layers"];
    EXPECT_EQ(layers.no_absorb_layers, run["no_absorb_layers"].get<Names>()) << run["supported_layers"];
    EXPECT_EQ(layers.warnings.size(), run["warnings"].size());
  }
}

INSTANTIATE_TEST_SUITE_P(IncGolden, AbsorbLayersOf, ::testing::Values("convnet", "tiny_transformer", "mixed"));

/// A layer as the compiler makes it.
Module named(const std::string& class_name, const std::string& source,
             const std::vector<std::pair<std::string, at::Tensor>>& parameters = {}) {
  static int count = 0;
  Module module("__torch__.layers_" + std::to_string(count++) + "." + class_name);
  module.register_attribute("training", c10::BoolType::get(), false);
  for (const auto& [name, tensor] : parameters) module.register_parameter(name, tensor, false);
  module.define(source);
  return module;
}

/// Its weight differs from all others: freezing joins equal layers.
Module linear() {
  static int count = 0;
  return named("Linear", "def forward(self, x):\n  return torch.linear(x, self.weight)\n",
               {{"weight", at::full({4, 4}, ++count, at::kFloat)}});
}

Module layer_norm() {
  return named("LayerNorm", "def forward(self, x):\n  return torch.layer_norm(x, [4], self.weight)\n",
               {{"weight", at::ones({4})}});
}

Module convolution(int64_t groups) {
  return named("Conv2d",
               "def forward(self, x):\n  return torch.conv2d(x, self.weight, None, [1, 1], [0, 0], [1, 1], " +
                   std::to_string(groups) + ")\n",
               {{"weight", at::ones({4, 4 / groups, 1, 1})}});
}

AbsorbLayers layers_of(const std::string& body, const std::string& arguments = "x") {
  const Module model = define("def forward(self, " + arguments + "):\n" + body, {},
                              {{"ln", layer_norm()}, {"fc", linear()}, {"other", linear()}});
  return get_absorb_layers(model, Sample{{at::ones({2, 4})}, {}});
}

const AbsorbTable kBoth = {{"ln", {"fc", "other"}}};
const AbsorbTable kOne = {{"ln", {"fc"}}};

TEST(GetAbsorbLayers, FollowsTheReadersOfTheNorm) {
  EXPECT_EQ(
      layers_of("  y = self.ln.forward(x)\n  return self.fc.forward(y) + self.other.forward(y)\n").absorb_to_layer,
      kBoth);
  EXPECT_EQ(layers_of("  return self.fc.forward(torch.relu(self.ln.forward(x)))\n").absorb_to_layer, kOne);
  EXPECT_EQ(layers_of("  y = self.ln.forward(x)\n  return self.fc.forward(torch.relu(y)) + self.other.forward(y)\n")
                .absorb_to_layer,
            kBoth);
  EXPECT_EQ(layers_of("  y = self.ln.forward(x)\n  return self.fc.forward(y), y.size(0)\n").absorb_to_layer, kOne);
  for (const char* body : {"  y = self.ln.forward(x)\n  return self.fc.forward(y) + y\n",
                           "  y = self.ln.forward(x)\n  return self.fc.forward(y), y\n",
                           "  return self.fc.forward(torch.gelu(self.ln.forward(x)))\n",
                           "  y = self.ln.forward(x)\n  return self.fc.forward(torch.relu(y)) + torch.tanh(y)\n"}) {
    const auto layers = layers_of(body);
    EXPECT_TRUE(layers.absorb_to_layer.empty()) << body;
    EXPECT_EQ(layers.no_absorb_layers, Names{"fc"}) << body;
    EXPECT_EQ(layers.warnings.size(), 1u);
  }
}

TEST(GetAbsorbLayers, LooksIntoBranches) {
  const auto layers = layers_of(
      "  y = self.ln.forward(x)\n  if x.size(0) > 1:\n    z = self.fc.forward(y)\n  else:\n    z = "
      "self.other.forward(y)\n  return z\n");
  EXPECT_EQ(layers.absorb_to_layer, kBoth);
}

TEST(GetAbsorbLayers, DropsDropoutInEvaluationMode) {
  EXPECT_EQ(
      layers_of("  return self.fc.forward(torch.dropout(self.ln.forward(x), 0.5, self.training))\n").absorb_to_layer,
      kOne);
}

TEST(GetAbsorbLayers, CompiledConvolutionsCount) {
  const auto absorbed = [](int64_t groups) {
    const Module model = define("def forward(self, x):\n  return self.b.forward(self.a.forward(x))\n", {},
                                {{"a", convolution(1)}, {"b", convolution(groups)}});
    return get_absorb_layers(model, Sample{{at::ones({1, 4, 2, 2})}, {}}, {"Conv2d"});
  };
  const AbsorbTable pair = {{"a", {"b"}}};
  EXPECT_EQ(absorbed(1).absorb_to_layer, pair);
  EXPECT_EQ(absorbed(4).absorb_to_layer, pair);  // depthwise
  EXPECT_TRUE(absorbed(2).absorb_to_layer.empty());
  EXPECT_EQ(absorbed(2).no_absorb_layers, (Names{"a", "b"}));
}

TEST(GetAbsorbLayers, TakesInputsInContainers) {
  const Module two = define("def forward(self, x, y):\n  return self.fc.forward(self.ln.forward(x + y))\n", {},
                            {{"ln", layer_norm()}, {"fc", linear()}});
  const auto x = at::ones({2, 4});
  c10::Dict<std::string, at::Tensor> dict;
  dict.insert("y", x);
  dict.insert("x", x);
  EXPECT_EQ(get_absorb_layers(two, dict).absorb_to_layer, kOne);
  EXPECT_EQ(get_absorb_layers(two, c10::ivalue::Tuple::create(x, x)).absorb_to_layer, kOne);
}

TEST(GetAbsorbLayers, WarnsWhenTheModelDoesNotRun) {
  const Module model = define("def forward(self, x):\n  return self.fc.forward(self.ln.forward(x))\n", {},
                              {{"ln", layer_norm()}, {"fc", linear()}});
  const auto layers = get_absorb_layers(model, Sample{{at::ones({2, 5})}, {}}, {"Conv2d"});
  EXPECT_TRUE(layers.absorb_to_layer.empty());
  EXPECT_EQ(layers.no_absorb_layers, Names{"fc"});
  EXPECT_EQ(layers.warnings.size(), 3u);
}

TEST(GraphTrace, TablesCanBeExtended) {
  const Module norm = named("MyNorm", "def forward(self, x):\n  return torch.layer_norm(x, [4])\n");
  const Module model = define("def forward(self, x):\n  return self.fc.forward(torch.gelu(self.ln.forward(x)))\n", {},
                              {{"ln", norm}, {"fc", linear()}});
  const Sample example{{at::ones({2, 4})}, {}};
  GraphTrace tracer;
  EXPECT_TRUE(tracer.get_absorb_to_layer(model, example, {"Linear"})->absorb_to_layer.empty());
  tracer.skip_ops_to_find_absorb.push_back("aten::gelu");
  EXPECT_TRUE(tracer.get_absorb_to_layer(model, example, {"Linear"})->absorb_to_layer.empty());
  EXPECT_EQ(tracer.get_absorb_to_layer(model, example, {"Linear"}, false)->absorb_to_layer, kOne);
  tracer.supported_torch_module_to_aten["MyNorm"] = "aten::layer_norm";
  EXPECT_EQ(tracer.get_absorb_to_layer(model, example, {"Linear"})->absorb_to_layer, kOne);
  EXPECT_TRUE(tracer.warnings.empty());
}

TEST(GraphTrace, MapsClassesToOperators) {
  GraphTrace tracer;
  EXPECT_EQ(tracer.mapping_torch_module_to_aten({"Conv2d", "Linear", "ConvTranspose2d", "NoSuch"}),
            (Names{"aten::_convolution", "aten::linear"}));
  ASSERT_EQ(tracer.warnings.size(), 1u);
  EXPECT_NE(tracer.warnings[0].find("NoSuch"), std::string::npos);
  EXPECT_NE(tracer.warnings[0].find("LayerNorm"), std::string::npos);
}

TEST(GraphTrace, ScopesAreModulesOfInlinedCalls) {
  const Module inner =
      define("def forward(self, x):\n  return self.helper(x) + 1\ndef helper(self, x):\n  return torch.relu(x)\n");
  const Module outer = define("def forward(self, x):\n  return self.inner.forward(x) * 2\n", {}, {{"inner", inner}});
  const Module model =
      define("def forward(self, x):\n  return torch.tanh(self.outer.forward(x))\n", {}, {{"outer", outer}});
  GraphTrace tracer;
  const auto graph = tracer.trace(model, {{at::ones({1})}, {}});
  ASSERT_TRUE(graph);
  std::map<std::string, std::string> scopes;
  for (const auto* node : graph->nodes()) scopes[node->kind().toQualString()] = module_name_of(node);
  EXPECT_EQ(scopes["aten::relu"], "outer.inner");
  EXPECT_EQ(scopes["aten::add"], "outer.inner");
  EXPECT_EQ(scopes["aten::mul"], "outer");
  EXPECT_EQ(scopes["aten::tanh"], "");
}

TEST(GetParent, GivesNodesOrValues) {
  GraphTrace tracer;
  const auto graph = tracer.trace(define("def forward(self, x, y):\n  return torch.relu(x) + y\n"),
                                  {{at::ones({1}), at::ones({1})}, {}});
  ASSERT_TRUE(graph);
  auto* add = tracer.get_nodes(*graph, {"aten::add"}).at(0);
  EXPECT_EQ(get_parent(add).node->kind(), c10::aten::relu);
  EXPECT_TRUE(get_parent(add).inputs.empty());
  EXPECT_EQ(get_parent(add, true).inputs.size(), 3u);
  EXPECT_EQ(get_parent(graph->param_node()).node, nullptr);
}

}  // namespace
}  // namespace tsquant::testing

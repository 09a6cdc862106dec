#include "tsquant/xnnpack_quantizer.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "annotated_model.h"
#include "support/support.h"

namespace tsquant::testing::xnnpack_quantizer_test {
namespace {

XNNPACKQuantizer by_default() {
  XNNPACKQuantizer quantizer;
  quantizer.set_global(get_symmetric_quantization_config());
  return quantizer;
}

Lines points_of(const std::string& source, const std::vector<std::pair<std::string, at::Tensor>>& params,
                const std::vector<at::Tensor>& inputs, XNNPACKQuantizer quantizer = by_default()) {
  return AnnotatedModel(define(source, params), quantizer, inputs).points();
}

at::Tensor image() { return at::ones({1, 4, 8, 8}); }
std::pair<std::string, at::Tensor> conv_weight(const std::string& name = "w") { return {name, at::ones({4, 4, 3, 3})}; }
std::pair<std::string, at::Tensor> square_weight(const std::string& name = "w") { return {name, at::ones({4, 4})}; }

bool contains(const Error& error, const std::string& text) {
  return std::string(error.what()).find(text) != std::string::npos;
}

TEST(XNNPACKQuantizer, relu_belongs_to_the_layer_before_it) {
  const Lines expected{"conv2d:1 int8[-127,127] w", "linear:1 int8[-127,127] w", "relu int8[-128,127]",
                       "relu_1 int8[-128,127]", "x int8[-128,127]"};
  EXPECT_EQ(points_of(R"(
def forward(self, x):
    return torch.relu(torch.linear(torch.relu(torch.conv2d(x, self.w)), self.v))
)",
                      {conv_weight(), {"v", at::ones({3, 6})}}, {image()}),
            expected);
}

TEST(XNNPACKQuantizer, layer_with_two_readers_is_quantized_before_its_relu) {
  // The relu then shares the quantizer of its input.
  const Lines expected{"linear int8[-128,127] =a", "linear:1 int8[-127,127] w", "relu int8[-128,127] =a",
                       "x int8[-128,127]"};
  EXPECT_EQ(points_of(R"(
def forward(self, x):
    y = torch.linear(x, self.w)
    return torch.relu(y), torch.sigmoid(y)
)",
                      {square_weight()}, {at::ones({2, 4})}),
            expected);
}

TEST(XNNPACKQuantizer, moving_operators_pass_the_quantizer_on) {
  const Lines expected{"conv2d int8[-128,127] =a",     "conv2d:1 int8[-127,127] w", "flatten int8[-128,127] =a",
                       "max_pool2d int8[-128,127] =a", "permute int8[-128,127] =a", "x int8[-128,127]"};
  EXPECT_EQ(points_of(R"(
def forward(self, x):
    y = torch.max_pool2d(torch.conv2d(x, self.w), [2, 2])
    return torch.sigmoid(torch.flatten(torch.permute(y, [0, 2, 3, 1]), 1))
)",
                      {conv_weight()}, {image()}),
            expected);
}

TEST(XNNPACKQuantizer, squeeze_passes_on_only_with_a_dimension) {
  const std::vector<std::pair<std::string, at::Tensor>> weight{{"w", at::ones({1, 4})}};
  const auto count = [&](const std::string& call) {
    return points_of("def forward(self, x):\n    return " + call + "\n", weight, {at::ones({2, 4})}).size();
  };
  EXPECT_EQ(count("torch.squeeze(torch.linear(x, self.w), 1)"), 4u);
  EXPECT_EQ(count("torch.squeeze(torch.linear(x, self.w))"), 3u);
}

TEST(XNNPACKQuantizer, adaptive_pooling_and_cat_share_with_their_inputs) {
  const Lines pooling{"adaptive_avg_pool2d int8[-128,127] =a", "conv2d int8[-128,127] =a", "conv2d:1 int8[-127,127] w",
                      "x int8[-128,127]"};
  EXPECT_EQ(points_of("def forward(self, x):\n    return torch.adaptive_avg_pool2d(torch.conv2d(x, self.w), [1, 1])\n",
                      {conv_weight()}, {image()}),
            pooling);
  const Lines alone{"adaptive_avg_pool2d int8[-128,127] =a", "x int8[-128,127] =a"};
  EXPECT_EQ(points_of("def forward(self, x):\n    return torch.adaptive_avg_pool2d(x, [1, 1])\n", {}, {image()}),
            alone);
  const Lines cat{"cat int8[-128,127] =a", "x int8[-128,127] =a", "y int8[-128,127] =a"};
  EXPECT_EQ(points_of("def forward(self, x, y):\n    return torch.cat([x, y, x], 1)\n", {}, {image(), image()}), cat);
}

TEST(XNNPACKQuantizer, numbers_become_inputs) {
  const Lines expected{"_tensor_constant_0 int8[-128,127]", "add int8[-128,127]", "x int8[-128,127]"};
  EXPECT_EQ(points_of("def forward(self, x):\n    return x + 1.0\n", {}, {image()}), expected);
}

TEST(XNNPACKQuantizer, additions_and_products_with_and_without_relu) {
  const Lines expected{"add int8[-128,127]", "relu int8[-128,127]", "x int8[-128,127]", "y int8[-128,127]"};
  EXPECT_EQ(points_of("def forward(self, x, y):\n    return torch.relu((x + y) * x)\n", {}, {image(), image()}),
            expected);
  const Lines product{"mul int8[-128,127]", "x int8[-128,127]"};
  EXPECT_EQ(points_of("def forward(self, x):\n    return x * x\n", {}, {image()}), product);
}

TEST(XNNPACKQuantizer, integers_and_huge_numbers_stay_as_they_are) {
  const std::string sum = "def forward(self, x, y):\n    return x + y\n";
  EXPECT_TRUE(points_of(sum, {}, {at::ones({3}, at::kInt), at::ones({3}, at::kInt)}).empty());
  EXPECT_TRUE(points_of(sum, {}, {at::ones({3}, at::kDouble), at::ones({3}, at::kDouble)}).empty());
  EXPECT_EQ(points_of(sum, {}, {at::ones({3}), at::ones({3})}).size(), 3u);
  EXPECT_TRUE(points_of("def forward(self, x):\n    return x * 1e20\n", {}, {image()}).empty());
}

TEST(XNNPACKQuantizer, transposed_convolutions_have_their_channels_in_dimension_1) {
  XNNPACKQuantizer quantizer;
  quantizer.set_global(get_symmetric_quantization_config(/*is_per_channel=*/true));
  const auto transposed = [&](int64_t groups) {
    return points_of(
        "def forward(self, x):\n    return torch.conv_transpose2d(x, self.w, None, [1, 1], [0, 0], [0, 0], " +
            std::to_string(groups) + ")\n",
        {conv_weight()}, {image()}, quantizer);
  };
  const Lines expected{"conv_transpose2d int8[-128,127]", "conv_transpose2d:1 int8[-127,127] w ch1",
                       "x int8[-128,127]"};
  EXPECT_EQ(transposed(1), expected);
  EXPECT_TRUE(transposed(2).empty()) << "XNNPACK has none with groups";
}

TEST(XNNPACKQuantizer, gru_is_quantized_at_its_ends) {
  const std::string source = R"(
def forward(self, x, h):
    y, z = torch.gru(x, h, [self.a, self.b, self.c, self.d], True, 1, 0.0, False, False, False)
    return y, z
)";
  const Lines expected{"getitem int8[-128,127]", "getitem_1 int8[-128,127]", "h int8[-128,127]", "x int8[-128,127]"};
  EXPECT_EQ(
      points_of(source,
                {{"a", at::ones({12, 3})}, {"b", at::ones({12, 4})}, {"c", at::ones({12})}, {"d", at::ones({12})}},
                {at::ones({5, 1, 3}), at::ones({1, 1, 4})}),
      expected);
}

TEST(XNNPACKQuantizer, parameters_of_the_configuration_reach_the_points) {
  const auto with = [](const QuantizationConfig& config) {
    XNNPACKQuantizer quantizer;
    quantizer.set_global(config);
    return points_of("def forward(self, x):\n    return torch.linear(x, self.w)\n", {square_weight()},
                     {at::ones({2, 4})}, quantizer);
  };
  const Lines per_channel{"linear int8[-128,127]", "linear:1 int8[-127,127] w ch0", "x int8[-128,127]"};
  EXPECT_EQ(with(get_symmetric_quantization_config(/*is_per_channel=*/true)), per_channel);
  const Lines narrow{"linear int8[-100,99]", "linear:1 int8[-7,6] w", "x int8[-100,99]"};
  EXPECT_EQ(with(get_symmetric_quantization_config(false, false, false, -100, 99, -7, 6)), narrow);
  auto inputs_only = get_symmetric_quantization_config();
  inputs_only.output_activation = c10::nullopt;
  const Lines without_result{"linear:1 int8[-127,127] w", "x int8[-128,127]"};
  EXPECT_EQ(with(inputs_only), without_result);
}

TEST(XNNPACKQuantizer, default_config_is_that_of_executorch) {
  const auto config = get_symmetric_quantization_config();
  EXPECT_EQ(config.input_activation, config.output_activation);
  EXPECT_EQ(config.input_activation->mode, QuantizationScheme::kAsymmetric);
  EXPECT_EQ(config.input_activation->observer, ObserverKind::kHistogram);
  EXPECT_EQ(config.input_activation->eps, 1.0 / 4096);
  EXPECT_EQ(config.weight->observer, ObserverKind::kMinMax);
  EXPECT_EQ(get_symmetric_quantization_config(true).weight->observer, ObserverKind::kPerChannelMinMax);
}

TEST(XNNPACKQuantizer, tensor_whose_places_have_other_specs_is_quantized_twice) {
  const std::string source = "def forward(self, x):\n    return torch.linear(x, self.w) * x\n";
  XNNPACKQuantizer quantizer = by_default();
  quantizer.set_operator_type("mul", get_symmetric_quantization_config(false, false, false, -100, 100));
  const Lines expected{"linear int8[-128,127]", "linear:0 int8[-128,127]", "linear:1 int8[-127,127] w",
                       "mul int8[-100,100]",    "mul:0 int8[-100,100]",    "mul:1 int8[-100,100]"};
  EXPECT_EQ(points_of(source, {square_weight()}, {at::ones({2, 4})}, quantizer), expected);
}

TEST(XNNPACKQuantizer, operator_type_wins_over_the_global_configuration) {
  const std::string source = "def forward(self, x):\n    return torch.relu(torch.linear(x, self.w)) * x\n";
  for (const char* spelling : {"linear", "aten::linear", "torch.ops.aten.linear.default"}) {
    XNNPACKQuantizer quantizer = by_default();
    quantizer.set_operator_type(spelling, c10::nullopt);
    const Lines expected{"mul int8[-128,127]", "mul:1 int8[-128,127]", "relu int8[-128,127]"};
    EXPECT_EQ(points_of(source, {square_weight()}, {at::ones({2, 4})}, quantizer), expected) << spelling;
  }
}

size_t weights_of(const AnnotatedModel& model) {
  const auto& points = model.annotations().points;
  return static_cast<size_t>(
      std::count_if(points.begin(), points.end(), [](const auto& point) { return point.kind == PointKind::kWeight; }));
}

TEST(XNNPACKQuantizer, module_types_and_names_on_a_real_network) {
  const auto resnet = [] { return Model::load(data_file("traces/resnet18.pt")); };
  const auto config = get_symmetric_quantization_config();
  XNNPACKQuantizer all = by_default();
  EXPECT_EQ(weights_of(AnnotatedModel(resnet(), all, {})), 21u);
  for (const char* type : {"Conv2d", "torch.nn.modules.conv.Conv2d"}) {
    XNNPACKQuantizer convolutions;
    convolutions.set_module_type(type, config);
    EXPECT_EQ(weights_of(AnnotatedModel(resnet(), convolutions, {})), 20u) << type;
  }
  XNNPACKQuantizer no_blocks = by_default();
  no_blocks.set_module_type("BasicBlock", c10::nullopt);
  EXPECT_EQ(weights_of(AnnotatedModel(resnet(), no_blocks, {})), 2u) << "the first convolution and the classifier";
  XNNPACKQuantizer by_name;
  by_name.set_module_name("layer2.0", config);
  EXPECT_EQ(weights_of(AnnotatedModel(resnet(), by_name, {})), 3u);
  by_name.set_module_type("BasicBlock", c10::nullopt);
  EXPECT_EQ(weights_of(AnnotatedModel(resnet(), by_name, {})), 3u) << "names win over types";
  by_name.set_module_name("layer2.0", c10::nullopt);
  by_name.set_global(config);
  by_name.set_operator_type("conv2d", config);
  EXPECT_EQ(weights_of(AnnotatedModel(resnet(), by_name, {})), 2u) << "types win over operators";
}

TEST(XNNPACKQuantizer, cat_obeys_configurations_by_module) {
  const auto join = define("def forward(self, x, y):\n    return torch.cat([x, y], 1)\n");
  const auto net = define("def forward(self, x):\n    return torch.linear(self.join.forward(x, x + x), self.w)\n",
                          {{"w", at::ones({3, 8})}}, {{"join", join}});
  XNNPACKQuantizer only_join, without_join = by_default();
  only_join.set_module_name("join", get_symmetric_quantization_config());
  const Lines cat{"add int8[-128,127] =a", "cat int8[-128,127] =a", "cat:0 int8[-128,127] =a"};
  EXPECT_EQ(AnnotatedModel(net, only_join, {at::ones({2, 4})}).points(), cat);
  without_join.set_module_name("join", c10::nullopt);
  const Lines float_cat{"add int8[-128,127]", "add:0 int8[-128,127] =a", "add:1 int8[-128,127] =a",
                        "cat int8[-128,127]", "linear int8[-128,127]",   "linear:1 int8[-127,127] w"};
  EXPECT_EQ(AnnotatedModel(net, without_join, {at::ones({2, 4})}).points(), float_cat) << "cat:0 stays in float";
}

TEST(XNNPACKQuantizer, modules_in_containers_are_found_by_their_whole_name) {
  const auto block = [] {
    return define("def forward(self, x):\n    return torch.linear(x, self.w) + x\n", {square_weight()});
  };
  const auto list = [&] {
    torch::jit::Module module("__torch__.Blocks");
    module.register_module("0", block());
    module.register_module("1", block());
    return module;
  };
  const auto net = define(R"(
def forward(self, x):
    y = getattr(self.first, "1").forward(getattr(self.first, "0").forward(x))
    return getattr(self.second, "1").forward(getattr(self.second, "0").forward(y))
)",
                          {}, {{"first", list()}, {"second", list()}});
  XNNPACKQuantizer quantizer;
  quantizer.set_module_name("second.0", get_symmetric_quantization_config());
  const Lines expected{"add_1 int8[-128,127]", "add_2 int8[-128,127]", "linear_2 int8[-128,127]",
                       "linear_2:1 int8[-127,127] w"};
  EXPECT_EQ(AnnotatedModel(net, quantizer, {at::ones({2, 4})}).points(), expected);
}

TEST(XNNPACKQuantizer, wrong_values_are_refused) {
  XNNPACKQuantizer quantizer = by_default();
  const auto config = get_symmetric_quantization_config();
  EXPECT_TRUE(contains(thrown_by([] { get_symmetric_quantization_config(false, false, false, 5, 5); }),
                       "act_qmin and act_qmax are 5 and 5"));
  EXPECT_TRUE(contains(thrown_by([] { get_symmetric_quantization_config(false, false, false, -128, 127, -129, 1); }),
                       "weight_qmin and weight_qmax are -129 and 1"));
  EXPECT_TRUE(contains(thrown_by([&] { quantizer.set_operator_type("softmax", config); }), "conv_transpose2d"));
  auto per_channel = config;
  per_channel.output_activation->per_channel = true;
  EXPECT_TRUE(contains(thrown_by([&] { quantizer.set_module_type("Linear", per_channel); }), "per channel"));
  const auto net = define("def forward(self, x):\n    return x + x\n");
  quantizer.set_module_type("Conv7d", config);
  EXPECT_TRUE(contains(thrown_by([&] { AnnotatedModel(net, quantizer, {image()}); }), "\"Conv7d\""));
  XNNPACKQuantizer by_name;
  by_name.set_module_name("head", config);
  EXPECT_TRUE(contains(thrown_by([&] { AnnotatedModel(net, by_name, {image()}); }), "\"head\""));
}

}  // namespace
}  // namespace tsquant::testing::xnnpack_quantizer_test

#include "tsquant/x86_inductor_quantizer.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "annotated_model.h"
#include "support/support.h"

namespace tsquant::testing {
namespace {

X86InductorQuantizer by_default() {
  X86InductorQuantizer quantizer;
  quantizer.set_global(get_default_x86_inductor_quantization_config());
  return quantizer;
}

Lines points_of(const std::string& source, const std::vector<std::pair<std::string, at::Tensor>>& params,
                const std::vector<at::Tensor>& inputs, X86InductorQuantizer quantizer = by_default()) {
  return AnnotatedModel(define(source, params), quantizer, inputs).points();
}

at::Tensor image() { return at::ones({1, 4, 8, 8}); }
std::pair<std::string, at::Tensor> conv_weight(const std::string& name = "w") { return {name, at::ones({4, 4, 3, 3})}; }
std::pair<std::string, at::Tensor> square_weight(const std::string& name = "w") { return {name, at::ones({4, 4})}; }

std::string refusal_of_alias(const AnnotatedModel& model, const std::string& alias) {
  for (const auto& refusal : model.annotations().refusals) {
    if (refusal.node == model.view().find(alias)->name) return refusal.code + ": " + refusal.reason;
  }
  return "";
}

TEST(X86InductorQuantizer, chain_of_carriers_keeps_one_scale) {
  // Results of convolutions are not quantized, only what reads them; pooling and flatten share their input's scale.
  const Lines expected{"conv2d:1 int8[-128,127] w ch0", "flatten uint8[0,255] =a", "linear:1 int8[-128,127] w ch0",
                       "max_pool2d uint8[0,255] =a",    "relu uint8[0,255] =a",    "x uint8[0,255]"};
  EXPECT_EQ(points_of(R"(
def forward(self, x):
    y = torch.max_pool2d(torch.relu(torch.conv2d(x, self.w)), [2, 2])
    return torch.linear(torch.flatten(y, 1), self.v)
)",
                      {conv_weight(), {"v", at::ones({3, 36})}}, {image()}),
            expected);
}

TEST(X86InductorQuantizer, flatten_without_integer_consumer_stays_in_float) {
  const Lines expected{"conv2d:1 int8[-128,127] w ch0", "x uint8[0,255]"};
  EXPECT_EQ(points_of("def forward(self, x):\n    return torch.sigmoid(torch.flatten(torch.conv2d(x, self.w), 1))\n",
                      {conv_weight()}, {image()}),
            expected);
}

TEST(X86InductorQuantizer, pooling_of_float_values_stays_in_float) {
  X86InductorQuantizer quantizer = by_default();
  const AnnotatedModel model(
      define("def forward(self, x):\n    return torch.conv2d(torch.max_pool2d(x, [2, 2]), self.w), x\n",
             {conv_weight()}),
      quantizer, {image()});
  const Lines expected{"conv2d:1 int8[-128,127] w ch0", "max_pool2d uint8[0,255]"};
  EXPECT_EQ(model.points(), expected);
  EXPECT_EQ(refusal_of_alias(model, "max_pool2d"), "not_quantizable: X86InductorQuantizer has no pattern for it here");
}

TEST(X86InductorQuantizer, without_a_global_configuration_the_rest_says_so) {
  X86InductorQuantizer quantizer;
  quantizer.set_function_type_qconfig("linear", get_default_x86_inductor_quantization_config());
  const AnnotatedModel model(define("def forward(self, x):\n    return torch.conv2d(x, self.w)\n", {conv_weight()}),
                             quantizer, {image()});
  EXPECT_TRUE(model.points().empty());
  EXPECT_EQ(refusal_of_alias(model, "conv2d"),
            "not_configured: no configuration was set for it: X86InductorQuantizer has no global one (set_global)");
}

TEST(X86InductorQuantizer, tensor_with_a_float_reader_is_quantized_on_its_edges) {
  const Lines expected{"conv2d:0 uint8[0,255]", "conv2d:1 int8[-128,127] w ch0"};
  EXPECT_EQ(points_of("def forward(self, x):\n    return torch.conv2d(x, self.w), torch.sigmoid(x)\n", {conv_weight()},
                      {image()}),
            expected);
}

TEST(X86InductorQuantizer, sum_behind_a_convolution_reads_codes) {
  const std::string source = R"(
def forward(self, x):
    y = torch.conv2d(x, self.w, None, [1, 1], [1, 1])
    return torch.relu(y + torch.sigmoid(x))
)";
  const Lines expected{"conv2d:0 uint8[0,255]", "conv2d:1 int8[-128,127] w ch0", "sigmoid uint8[0,255]"};
  EXPECT_EQ(points_of(source, {conv_weight()}, {image()}), expected);
}

TEST(X86InductorQuantizer, sum_behind_a_linear_layer_reads_floats) {
  const Lines expected{"linear:0 uint8[0,255]", "linear:1 int8[-128,127] w ch0"};
  EXPECT_EQ(points_of("def forward(self, x):\n    return torch.relu(torch.linear(x, self.w) + torch.sigmoid(x))\n",
                      {square_weight()}, {at::ones({2, 4})}),
            expected);
}

TEST(X86InductorQuantizer, convolution_with_two_readers_is_not_fused_with_the_sum) {
  const std::string source = R"(
def forward(self, x):
    y = torch.conv2d(x, self.w, None, [1, 1], [1, 1])
    return y + torch.sigmoid(y)
)";
  const Lines expected{"conv2d:1 int8[-128,127] w ch0", "x uint8[0,255]"};
  EXPECT_EQ(points_of(source, {conv_weight()}, {image()}), expected);
}

TEST(X86InductorQuantizer, cat_shares_when_all_inputs_are_integer) {
  const Lines expected{"cat uint8[0,255] =a",      "conv2d uint8[0,255] =a",          "conv2d:1 int8[-128,127] w ch0",
                       "conv2d_1 uint8[0,255] =a", "conv2d_1:1 int8[-128,127] w ch0", "x uint8[0,255]"};
  EXPECT_EQ(
      points_of("def forward(self, x):\n    return torch.cat([torch.conv2d(x, self.w), torch.conv2d(x, self.v)], 1)\n",
                {conv_weight(), conv_weight("v")}, {image()}),
      expected);
  const Lines half{"conv2d:0 uint8[0,255]", "conv2d:1 int8[-128,127] w ch0"};
  EXPECT_EQ(points_of("def forward(self, x):\n    return torch.cat([torch.conv2d(x, self.w, None, 1, 1), x], 1)\n",
                      {conv_weight()}, {image()}),
            half);
}

TEST(X86InductorQuantizer, mul_needs_equal_shapes) {
  const std::string source = "def forward(self, x, y):\n    return x * y\n";
  const Lines both{"x uint8[0,255]", "y uint8[0,255]"};
  EXPECT_EQ(points_of(source, {}, {image(), image()}), both);
  EXPECT_TRUE(points_of(source, {}, {image(), at::ones({1, 4, 1, 1})}).empty()) << "another shape";
  EXPECT_TRUE(points_of(source, {}, {at::ones({3}, at::kInt), at::ones({3}, at::kInt)}).empty()) << "integers";
}

TEST(X86InductorQuantizer, convolution_in_one_dimension_needs_a_relu) {
  const std::vector<std::pair<std::string, at::Tensor>> weight{{"w", at::ones({4, 4, 3})}};
  EXPECT_TRUE(
      points_of("def forward(self, x):\n    return torch.conv1d(x, self.w)\n", weight, {at::ones({1, 4, 9})}).empty());
  EXPECT_EQ(points_of("def forward(self, x):\n    return torch.relu(torch.conv1d(x, self.w))\n", weight,
                      {at::ones({1, 4, 9})})
                .size(),
            2u);
}

TEST(X86InductorQuantizer, matmul_is_quantized_on_request) {
  const std::string source = "def forward(self, x, y):\n    return torch.matmul(x, y)\n";
  const std::vector<at::Tensor> inputs{at::ones({4, 4}), at::ones({4, 4})};
  EXPECT_TRUE(points_of(source, {}, inputs).empty());
  for (const char* spelling : {"matmul", "aten::matmul", "torch.matmul"}) {
    X86InductorQuantizer quantizer;
    quantizer.set_function_type_qconfig(spelling, get_default_x86_inductor_quantization_config());
    const Lines both{"x uint8[0,255]", "y uint8[0,255]"};
    EXPECT_EQ(points_of(source, {}, inputs, quantizer), both) << spelling;
  }
}

TEST(X86InductorQuantizer, reduce_range_uses_half_of_the_codes) {
  X86InductorQuantizer quantizer;
  quantizer.set_global(get_default_x86_inductor_quantization_config(false, false, /*reduce_range=*/true));
  const Lines expected{"linear:1 int8[-128,127] w ch0", "x uint8[0,127]"};
  EXPECT_EQ(points_of("def forward(self, x):\n    return torch.linear(x, self.w)\n", {square_weight()},
                      {at::ones({2, 4})}, quantizer),
            expected);
}

TEST(X86InductorQuantizer, default_config_is_that_of_torchao) {
  const auto config = get_default_x86_inductor_quantization_config();
  EXPECT_EQ(config.input_activation, config.output_activation);
  EXPECT_EQ(config.input_activation->mode, QuantizationScheme::kAsymmetric);
  EXPECT_EQ(config.input_activation->observer, ObserverKind::kHistogram);
  EXPECT_EQ(config.weight->mode, QuantizationScheme::kSymmetric);
  EXPECT_EQ(config.weight->observer, ObserverKind::kPerChannelMinMax);
  EXPECT_EQ(config.weight->eps, 1.0 / 4096);
}

TEST(X86InductorQuantizer, configuration_by_operator_wins_over_the_global_one) {
  const std::string source = "def forward(self, x):\n    return torch.linear(torch.conv2d(x, self.w), self.v)\n";
  const std::vector<std::pair<std::string, at::Tensor>> params{conv_weight(), {"v", at::ones({3, 6})}};
  X86InductorQuantizer quantizer = by_default();
  quantizer.set_module_type_qconfig("torch.nn.Linear", c10::nullopt);
  const Lines without_linear{"conv2d:1 int8[-128,127] w ch0", "x uint8[0,255]"};
  EXPECT_EQ(points_of(source, params, {image()}, quantizer), without_linear);
  quantizer.set_module_type_qconfig("Linear", get_default_x86_inductor_quantization_config(false, false, true));
  const Lines reduced_linear{"conv2d uint8[0,127]", "conv2d:1 int8[-128,127] w ch0", "linear:1 int8[-128,127] w ch0",
                             "x uint8[0,255]"};
  EXPECT_EQ(points_of(source, params, {image()}, quantizer), reduced_linear);
}

TEST(X86InductorQuantizer, configuration_by_module_wins_over_both) {
  const auto child = [] {
    return define("def forward(self, x):\n    return torch.linear(x, self.w)\n", {square_weight()});
  };
  const auto net = define("def forward(self, x):\n    return self.b.forward(self.a.forward(x))\n", {},
                          {{"a", child()}, {"b", child()}});
  X86InductorQuantizer quantizer = by_default();
  quantizer.set_function_type_qconfig("linear", get_default_x86_inductor_quantization_config(false, false, true));
  quantizer.set_module_name_qconfig("b", c10::nullopt);
  const AnnotatedModel model(net, quantizer, {at::ones({2, 4})});
  const Lines expected{"linear:1 int8[-128,127] w ch0", "x uint8[0,127]"};
  EXPECT_EQ(model.points(), expected);
  EXPECT_EQ(refusal_of_alias(model, "linear_1"), "ignored: left in float by a configuration");

  X86InductorQuantizer only_a;
  only_a.set_module_name_qconfig("a", get_default_x86_inductor_quantization_config());
  const Lines first{"linear:1 int8[-128,127] w ch0", "x uint8[0,255]"};
  EXPECT_EQ(AnnotatedModel(net, only_a, {at::ones({2, 4})}).points(), first);
}

TEST(X86InductorQuantizer, nothing_is_quantized_without_configuration) {
  EXPECT_TRUE(points_of("def forward(self, x):\n    return torch.linear(x, self.w)\n", {square_weight()},
                        {at::ones({2, 4})}, X86InductorQuantizer())
                  .empty());
}

TEST(X86InductorQuantizer, unset_fields_of_a_configuration_stay_in_float) {
  QuantizationConfig weights_only;
  weights_only.weight = get_default_x86_inductor_quantization_config().weight;
  X86InductorQuantizer quantizer;
  quantizer.set_global(weights_only);
  const Lines expected{"linear:1 int8[-128,127] w ch0"};
  EXPECT_EQ(points_of("def forward(self, x):\n    return torch.linear(x, self.w)\n", {square_weight()},
                      {at::ones({2, 4})}, quantizer),
            expected);
}

TEST(X86InductorQuantizer, wrong_values_are_refused) {
  X86InductorQuantizer quantizer;
  const auto config = get_default_x86_inductor_quantization_config();
  const Error function = thrown_by([&] { quantizer.set_function_type_qconfig("softmax", config); });
  EXPECT_NE(std::string(function.what()).find("\"softmax\""), std::string::npos);
  EXPECT_NE(std::string(function.what()).find("matmul"), std::string::npos) << "lists what can be configured";
  const Error type = thrown_by([&] { quantizer.set_module_type_qconfig("LSTM", config); });
  EXPECT_NE(std::string(type.what()).find("AdaptiveAvgPool2d"), std::string::npos);

  auto per_channel = config;
  per_channel.input_activation->per_channel = true;
  EXPECT_NE(std::string(thrown_by([&] { quantizer.set_global(per_channel); }).what()).find("per channel"),
            std::string::npos);
  auto asymmetric = config;
  asymmetric.weight->mode = QuantizationScheme::kAsymmetric;
  EXPECT_NE(
      std::string(thrown_by([&] { quantizer.set_module_name_qconfig("a", asymmetric); }).what()).find("symmetric"),
      std::string::npos);
}

TEST(X86InductorQuantizer, module_without_operators_is_refused_with_the_closest_names) {
  X86InductorQuantizer quantizer;
  quantizer.set_module_name_qconfig("layer1.7", get_default_x86_inductor_quantization_config());
  const Error error = thrown_by([&] { AnnotatedModel(Model::load(data_file("traces/resnet18.pt")), quantizer, {}); });
  EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
  EXPECT_NE(std::string(error.what()).find("\"layer1.7\""), std::string::npos);
  EXPECT_NE(std::string(error.what()).find("closest: layer1"), std::string::npos) << error.what();
}

}  // namespace
}  // namespace tsquant::testing

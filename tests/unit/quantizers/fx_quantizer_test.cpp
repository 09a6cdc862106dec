#include "tsquant/fx/fx_quantizer.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "annotated_model.h"
#include "fx_modules.h"
#include "support/support.h"

namespace tsquant::testing {
namespace {

/// default_qconfig for everything but what has a fixed range.
fx::QConfigMapping plain_mapping() {
  fx::QConfigMapping mapping;
  mapping.set_global(fx::default_qconfig());
  for (const char* type : {"sigmoid", "torch.nn.Softmax"}) {
    mapping.set_object_type(type,
                            fx::QConfig{fx::default_fixed_qparams_range_0to1_observer(), fx::default_qconfig().weight});
  }
  return mapping;
}

struct Told {
  fx::QConfigMapping mapping = plain_mapping();
  fx::PrepareCustomConfig custom = {};
  fx::BackendConfig backend = fx::get_native_backend_config();
};

AnnotatedModel annotate(const torch::jit::Module& module, const Told& told = {},
                        const std::vector<at::Tensor>& inputs = {}) {
  fx::FxQuantizer quantizer(told.mapping, told.custom, told.backend);
  return AnnotatedModel(module, quantizer, inputs);
}

Lines points_of(const std::string& source, const Named& params = {}, const Told& told = {}) {
  return annotate(define(source, params), told).points();
}

std::string refusal(const AnnotatedModel& annotated, const std::string& fx_name) {
  const std::string name = annotated.view().find(fx_name)->name;
  const auto& refusals = annotated.annotations().refusals;
  const auto found = std::find_if(refusals.begin(), refusals.end(), [&](const auto& it) { return it.node == name; });
  return found == refusals.end() ? "" : found->code;
}

std::pair<std::string, at::Tensor> weight(const std::string& name = "w") { return {name, at::ones({4, 4, 1, 1})}; }

TEST(FxQuantizer, a_tensor_has_one_observer_for_all_its_readers) {
  const Lines expected{"conv2d uint8[0,127]", "conv2d:1 int8[-999,-999] w", "conv2d_1 uint8[0,127]",
                       "conv2d_1:1 int8[-999,-999] w", "x uint8[0,127]"};
  EXPECT_EQ(points_of("def forward(self, x):\n    return torch.conv2d(x, self.w), torch.conv2d(x, self.v)\n",
                      {weight(), weight("v")}),
            expected);
}

TEST(FxQuantizer, float_readers_read_the_float_tensor) {
  const Lines expected{"conv2d uint8[0,127]",   "conv2d:0 uint8[0,127] =a",   "conv2d:1 int8[-999,-999] w",
                       "conv2d_1 uint8[0,127]", "conv2d_1:0 uint8[0,127] =a", "conv2d_1:1 int8[-999,-999] w"};
  EXPECT_EQ(points_of(R"(
def forward(self, x):
    return torch.conv2d(x, self.w), torch.conv2d(x, self.v), torch.gelu(x)
)",
                      {weight(), weight("v")}),
            expected);
}

TEST(FxQuantizer, fused_pairs_have_no_observer_between) {
  const Lines expected{"conv2d:1 int8[-999,-999] w", "relu uint8[0,127]", "x uint8[0,127]"};
  EXPECT_EQ(points_of("def forward(self, x):\n    return torch.relu(torch.conv2d(x, self.w))\n", {weight()}), expected);
  // The convolution has a second reader.
  const Lines apart{"conv2d uint8[0,127] =a", "conv2d:1 int8[-999,-999] w", "relu uint8[0,127] =a", "x uint8[0,127]"};
  EXPECT_EQ(points_of(R"(
def forward(self, x):
    y = torch.conv2d(x, self.w)
    return torch.relu(y), torch.gelu(y)
)",
                      {weight()}),
            apart);
}

TEST(FxQuantizer, a_number_shares_and_a_tensor_does_not) {
  const Lines shared{"mul uint8[0,127] =a", "x uint8[0,127] =a"};
  EXPECT_EQ(points_of("def forward(self, x):\n    return x * 0.5\n"), shared);
  EXPECT_EQ(points_of("def forward(self, x):\n    return x * torch.tensor(0.5)\n"), shared);
  const Lines own{"mul uint8[0,127]", "mul:1 uint8[0,127]", "x uint8[0,127]"};
  EXPECT_EQ(points_of("def forward(self, x):\n    return x * self.w\n", {weight()}), own);
}

TEST(FxQuantizer, fixed_ranges_are_of_results_and_not_of_inputs) {
  const auto annotated = annotate(define("def forward(self, x):\n    return torch.sigmoid(x)\n"));
  const auto& points = annotated.annotations().points;
  ASSERT_EQ(points.size(), 2u);
  EXPECT_EQ(points[0].node, "x");
  EXPECT_FALSE(points[0].spec.fixed_scale);
  EXPECT_EQ(points[1].spec.fixed_scale, 1.0 / 256);
  EXPECT_EQ(points[1].spec.fixed_zero_point, 0);
}

TEST(FxQuantizer, a_fixed_observer_gives_way_in_a_list) {
  const auto annotated = annotate(define(R"(
def forward(self, x):
    return torch.cat([torch.sigmoid(x), torch.conv2d(x, self.w)], 1)
)",
                                         {weight()}));
  const Lines expected{"cat uint8[0,127] =a", "conv2d uint8[0,127] =a", "conv2d:1 int8[-999,-999] w",
                       "sigmoid uint8[0,127] =a", "x uint8[0,127]"};
  EXPECT_EQ(annotated.points(), expected);
}

TEST(FxQuantizer, an_operator_with_a_fixed_range_needs_its_observer) {
  const auto model = define("def forward(self, x):\n    return torch.sigmoid(x)\n");
  Told told;
  told.mapping = fx::QConfigMapping().set_global(fx::default_qconfig());
  const Error error = thrown_by([&] { annotate(model, told); });
  EXPECT_EQ(error.place(), "/sigmoid/0");
  EXPECT_NE(error.advice().find("get_default_qconfig_mapping"), std::string::npos);
  told.mapping.set_object_type("sigmoid", c10::nullopt);
  EXPECT_EQ(refusal(annotate(model, told), "sigmoid"), "ignored");
  told.mapping = fx::QConfigMapping().set_global(fx::default_dynamic_qconfig());
  EXPECT_EQ(refusal(annotate(model, told), "sigmoid"), "unsupported_dtypes");
}

TEST(FxQuantizer, transposed_convolutions_have_weights_per_tensor) {
  const auto model =
      define("def forward(self, x):\n    return torch.conv_transpose2d(x, self.w)\n", {{"w", at::ones({4, 2, 2, 2})}});
  Told told;
  told.mapping = fx::get_default_qconfig_mapping("onednn");
  EXPECT_EQ(thrown_by([&] { annotate(model, told); }).message(),
            "weights per channel are not supported for transposed convolutions");
  told.mapping = fx::get_default_qconfig_mapping("x86");
  EXPECT_EQ(annotate(model, told).points().size(), 3u);
}

TEST(FxQuantizer, layers_decide_where_functions_differ) {
  const auto softmax = of_class("torch.nn.modules.activation.Softmax", R"(
def forward(self, x):
    return torch.softmax(x, 1)
)");
  const auto group_norm = of_class("torch.nn.modules.normalization.GroupNorm", R"(
def forward(self, x):
    return torch.group_norm(x, 2, None, None)
)");
  const auto annotated = annotate(define(R"(
def forward(self, x):
    y = self.a.forward(torch.softmax(x, 1))
    return self.b.forward(torch.group_norm(y, 2, None, None))
)",
                                         {}, {{"a", softmax}, {"b", group_norm}}));
  EXPECT_EQ(refusal(annotated, "softmax"), "not_quantizable");
  EXPECT_EQ(refusal(annotated, "softmax_1"), "");
  EXPECT_EQ(refusal(annotated, "group_norm"), "");
  EXPECT_EQ(refusal(annotated, "group_norm_1"), "unsupported_dtypes");
}

torch::jit::Module norm_layer(const std::string& type) {
  return of_class(
      "torch.nn.modules.batchnorm." + type, R"(
def forward(self, x):
    return torch.batch_norm(x, self.weight, self.bias, self.mean, self.var, False, 0.1, 1e-5, False)
)",
      {{"weight", at::ones({4})}, {"bias", at::ones({4})}, {"mean", at::ones({4})}, {"var", at::ones({4})}});
}

TEST(FxQuantizer, batch_norm_alone_is_quantized_in_two_and_three_dimensions) {
  const char* source = "def forward(self, x):\n    return torch.relu(self.bn.forward(x))\n";
  const Lines fused{"relu uint8[0,127]", "x uint8[0,127]"};
  EXPECT_EQ(annotate(define(source, {}, {{"bn", norm_layer("BatchNorm2d")}})).points(), fused);
  const auto flat = annotate(define(source, {}, {{"bn", norm_layer("BatchNorm1d")}}));
  EXPECT_EQ(refusal(flat, "batch_norm"), "not_quantizable");
}

torch::jit::Module embedding_and_linear(const char* table) {
  const std::string source = std::string(R"(
def forward(self, x):
    return torch.linear(torch.embedding()") +
                             table + ", x), self.v)\n";
  return define(source.c_str(), {{"w", at::ones({5, 4})}, {"v", at::ones({3, 4})}});
}

TEST(FxQuantizer, weights_alone_are_stored) {
  Told told;
  told.mapping = fx::QConfigMapping()
                     .set_object_type("embedding", fx::float_qparams_weight_only_qconfig_4bit())
                     .set_object_type("linear", fx::float16_dynamic_qconfig());
  const auto annotated = annotate(embedding_and_linear("self.w"), told, {at::zeros({2}, at::kLong)});
  ASSERT_EQ(annotated.points().size(), 2u);
  const auto& points = annotated.annotations().points;
  EXPECT_TRUE(points[0].spec.float_zero_point);
  EXPECT_EQ(points[0].spec.format, Format::kInt4);
  EXPECT_EQ(points[0].input_port, 0);
  EXPECT_EQ(points[1].spec.dtype, c10::kHalf);
  EXPECT_EQ(points[1].input_port, 1);
}

TEST(FxQuantizer, what_cannot_be_stored_stays_in_float_with_a_reason) {
  Told told;
  told.mapping = fx::QConfigMapping()
                     .set_object_type("embedding", fx::float_qparams_weight_only_qconfig())
                     .set_object_type("linear", fx::float16_static_qconfig());
  const auto annotated = annotate(embedding_and_linear("self.w * x.sum()"), told, {at::zeros({2}, at::kLong)});
  EXPECT_EQ(annotated.points(), Lines());
  EXPECT_EQ(refusal(annotated, "embedding"), "computed_weight");
  EXPECT_NE(refusal(annotated, "linear"), "");
}

TEST(FxQuantizer, integers_are_not_observed) {
  const auto model = define("def forward(self, x, y):\n    return x * y\n");
  const Lines expected{"mul uint8[0,127] =a", "x uint8[0,127] =a"};
  EXPECT_EQ(annotate(model, {}, {at::ones({2, 2}), at::ones({2, 2}, at::kLong)}).points(), expected);
}

TEST(FxQuantizer, weights_that_the_model_computes_are_observed) {
  const auto annotated = annotate(define("def forward(self, x, y):\n    return torch.linear(x, torch.exp(y))\n"));
  const Lines expected{"linear uint8[0,127]", "linear:1 int8[-999,-999]", "x uint8[0,127]"};
  EXPECT_EQ(annotated.points(), expected);
}

TEST(FxQuantizer, reshape_reuses_what_its_input_has) {
  Told told;
  told.mapping = plain_mapping().set_object_type("reshape", fx::default_reuse_input_qconfig());
  EXPECT_EQ(points_of("def forward(self, x):\n    return torch.gelu(torch.reshape(x, [-1]))\n", {}, told), Lines());
  const Lines expected{"add uint8[0,127] =a", "reshape uint8[0,127] =a", "x uint8[0,127]"};
  EXPECT_EQ(points_of("def forward(self, x):\n    return torch.reshape(x + x, [-1])\n", {}, told), expected);
}

TEST(FxQuantizer, backends_decide_about_signed_codes) {
  const auto model = define("def forward(self, x):\n    return torch.linear(x, self.w)\n", {{"w", at::ones({4, 4})}});
  Told told;
  told.mapping = fx::QConfigMapping().set_global(fx::default_symmetric_qnnpack_qconfig());
  EXPECT_EQ(refusal(annotate(model, told), "linear"), "unsupported_dtypes");
  told.backend = fx::get_qnnpack_backend_config();
  const Lines expected{"linear int8[-128,127]", "linear:1 int8[-127,127] w", "x int8[-128,127]"};
  EXPECT_EQ(annotate(model, told).points(), expected);
  auto coarse = fx::default_symmetric_qnnpack_qconfig();
  coarse.activation.eps = 1e-6;
  told.mapping.set_global(coarse);
  EXPECT_EQ(refusal(annotate(model, told), "linear"), "unsupported_dtypes");
}

TEST(FxQuantizer, onednn_adds_inside_of_a_convolution) {
  const auto model = define(R"(
def forward(self, x, y):
    return torch.relu(torch.conv2d(x, self.w) + y)
)",
                            {weight()});
  Told told;
  told.backend = fx::get_onednn_backend_config();
  const Lines expected{"conv2d:1 int8[-999,-999] w", "relu uint8[0,127]", "x uint8[0,127]", "y uint8[0,127]"};
  EXPECT_EQ(annotate(model, told).points(), expected);
  EXPECT_EQ(annotate(model).points().size(), 5u);
}

TEST(FxQuantizer, onednn_computes_activations_inside_of_linear_layers) {
  const auto model =
      define("def forward(self, x):\n    return torch.tanh(self.fc.forward(x))\n", {}, {{"fc", linear_layer(4, 4)}});
  Told told;
  told.mapping = fx::get_default_qconfig_mapping("qnnpack");
  EXPECT_EQ(refusal(annotate(model, told), "tanh"), "");
  told.backend = fx::get_onednn_backend_config();
  const auto annotated = annotate(model, told);
  EXPECT_EQ(refusal(annotated, "tanh"), "fused");
  for (const auto& point : annotated.annotations().points) EXPECT_FALSE(point.spec.fixed_scale) << point.node;
}

TEST(FxQuantizer, tensorrt_has_signed_codes_only) {
  const auto model = define("def forward(self, x):\n    return torch.relu(torch.addmm(self.b, x, self.w))\n",
                            {{"b", at::ones({4})}, {"w", at::ones({4, 4})}});
  Told told;
  told.backend = fx::get_tensorrt_backend_config();
  const auto unsigned_codes = annotate(model, told);
  EXPECT_EQ(unsigned_codes.points(), Lines());
  told.mapping = fx::QConfigMapping().set_global(fx::default_symmetric_qnnpack_qconfig());
  const Lines expected{"addmm int8[-128,127] =a", "addmm:2 int8[-127,127] w", "relu int8[-128,127] =a",
                       "x int8[-128,127]"};
  EXPECT_EQ(annotate(model, told).points(), expected);
}

TEST(FxQuantizer, non_traceable_modules_stay_in_float) {
  const auto block = of_class("models.Block", "def forward(self, x):\n    return self.c.forward(x) + x\n", {},
                              {{"c", conv2d_layer(4, 4)}});
  const auto model = define("def forward(self, x):\n    return self.o.forward(self.b.forward(x))\n", {},
                            {{"b", block}, {"o", conv2d_layer(4, 4)}});
  const Lines expected{"add uint8[0,127]", "conv2d_1 uint8[0,127]", "conv2d_1:1 int8[-999,-999] w"};
  Told by_name, by_class, custom;
  by_name.custom.set_non_traceable_module_names({"b"});
  by_class.custom.set_non_traceable_module_classes({"Block"});
  custom.custom.set_float_to_observed_mapping("Block", [](const torch::jit::Module& module) { return module; });
  for (const Told& told : {by_name, by_class, custom}) {
    const auto annotated = annotate(model, told);
    EXPECT_EQ(annotated.points(), expected);
    EXPECT_EQ(refusal(annotated, "conv2d"), "non_traceable");
  }
  by_name.custom.set_non_traceable_module_names({"bb"});
  EXPECT_EQ(thrown_by([&] { annotate(model, by_name); }).message(), "the model has no module \"bb\"");
}

TEST(FxQuantizer, standalone_modules_have_rules_of_their_own) {
  const auto block = of_class("models.Block", R"(
def forward(self, x):
    return self.c.forward(self.d.forward(x))
)",
                              {}, {{"c", linear_layer(4, 4)}, {"d", linear_layer(4, 4)}});
  const auto model = define("def forward(self, x):\n    return self.o.forward(self.b.forward(x))\n", {},
                            {{"b", block}, {"o", linear_layer(4, 4)}});
  fx::StandaloneConfig standalone;
  standalone.qconfig_mapping =
      fx::QConfigMapping().set_global(fx::default_symmetric_qnnpack_qconfig()).set_module_name("d", c10::nullopt);
  standalone.backend_config = fx::get_qnnpack_backend_config();
  const Lines expected{"linear_1 int8[-128,127]", "linear_1:1 int8[-127,127] w", "linear int8[-128,127]",
                       "linear_2 uint8[0,127]", "linear_2:1 int8[-999,-999] w"};
  Told by_name, by_class, inherited;
  by_name.custom.set_standalone_module_name("b", standalone);
  by_class.custom.set_standalone_module_class("models.Block", standalone);
  for (const Told& told : {by_name, by_class}) {
    const auto annotated = annotate(model, told);
    EXPECT_EQ(refusal(annotated, "linear"), "ignored");
    const Lines points = annotated.points();
    for (const auto& line : expected) EXPECT_EQ(std::count(points.begin(), points.end(), line), 1) << line;
  }
  // Without a mapping the module's qconfig is that of everything in it.
  inherited.mapping.set_module_name("b", c10::nullopt).set_module_name("b.c", fx::default_qconfig());
  inherited.custom.set_standalone_module_name("b", {});
  EXPECT_EQ(refusal(annotate(model, inherited), "linear_1"), "ignored");
  standalone.prepare_custom_config = std::make_shared<fx::PrepareCustomConfig>();
  by_name.custom.set_standalone_module_name("b", standalone);
  EXPECT_EQ(thrown_by([&] { annotate(model, by_name); }).place(), "FxQuantizer");
}

TEST(FxQuantizer, indexes_of_inputs_and_outputs_are_checked) {
  fx::PrepareCustomConfig custom;
  EXPECT_EQ(thrown_by([&] { custom.set_output_quantized_indexes({1}); }).place(), "set_output_quantized_indexes");
  EXPECT_EQ(thrown_by([&] { custom.set_output_quantized_indexes({0, 1}); }).message(), "the indexes are 0, 1");
  EXPECT_EQ(thrown_by([&] { custom.set_input_quantized_indexes({-1}); }).message(), "an index is -1");
  EXPECT_EQ(thrown_by([&] { custom.set_input_quantized_indexes({1, 1}); }).message(), "index 1 stands twice");
  const auto model = define("def forward(self, x):\n    return torch.gelu(x)\n");
  Told told;
  told.custom.set_input_quantized_indexes({1});
  EXPECT_EQ(thrown_by([&] { annotate(model, told); }).message(), "input 1 is to be quantized, but the model has 1");
  told.custom.set_input_quantized_indexes({}).set_output_quantized_indexes({0});
  told.mapping.set_object_type("gelu", c10::nullopt);
  EXPECT_EQ(thrown_by([&] { annotate(model, told); }).message(),
            "the output is to be quantized, but what makes it has no qconfig");
  EXPECT_EQ(thrown_by([&] { annotate(define("def forward(self, x):\n    return x + x, x * x\n"), told); }).message(),
            "the output is to be quantized, but the model returns 2 tensors");
}

TEST(FxQuantizer, custom_modules_have_a_function_per_class_and_type) {
  fx::PrepareCustomConfig custom;
  const auto same = [](const torch::jit::Module& module) { return module; };
  custom.set_float_to_observed_mapping("A", same, fx::QuantType::kDynamic).set_float_to_observed_mapping("A", same);
  EXPECT_EQ(custom.float_to_observed_mapping().at(fx::QuantType::kDynamic).count("A"), 1u);
  EXPECT_EQ(custom.float_to_observed_mapping().at(fx::QuantType::kStatic).count("A"), 1u);
  EXPECT_EQ(thrown_by([&] { custom.set_float_to_observed_mapping("A", nullptr); }).place(),
            "set_float_to_observed_mapping");
  fx::ConvertCustomConfig convert;
  convert.set_observed_to_quantized_mapping("B", same, fx::QuantType::kWeightOnly).set_preserved_attributes({"tag"});
  EXPECT_EQ(convert.observed_to_quantized_mapping().at(fx::QuantType::kWeightOnly).count("B"), 1u);
  EXPECT_EQ(fx::FuseCustomConfig().set_preserved_attributes({"tag"}).preserved_attributes(), Lines{"tag"});
}

TEST(FxQuantizer, dynamic_layers_quantize_what_is_quantized_already) {
  Told told;
  told.mapping.set_object_type("linear", fx::default_dynamic_qconfig());
  const auto annotated = annotate(
      define("def forward(self, x):\n    return torch.linear(x + x, self.w)\n", {{"w", at::ones({4, 4})}}), told);
  const Lines expected{"add uint8[0,127]", "linear:0 uint8[-999,-999]", "linear:1 int8[-999,-999] w", "x uint8[0,127]"};
  EXPECT_EQ(annotated.points(), expected);
}

TEST(FxQuantizer, training_has_fake_quantizes) {
  Told told;
  told.mapping = fx::get_default_qat_qconfig_mapping("x86");
  fx::FxQuantizer quantizer(told.mapping);
  const AnnotatedModel annotated(Model::load(data_file("fx/acts.pt")), quantizer, {});
  for (const auto& point : annotated.annotations().points) {
    EXPECT_EQ(point.spec.fake_quantize,
              point.spec.fixed_scale ? FakeQuantizeType::kFixedQParams : FakeQuantizeType::kFusedMovingAvgObs);
  }
}

TEST(FxQuantizer, modules_that_passes_fold_may_be_named) {
  fx::FxQuantizer quantizer(plain_mapping().set_module_name("bn1", c10::nullopt));
  const AnnotatedModel annotated(Model::load(data_file("fx/conv_bn_relu.pt")), quantizer, {});
  EXPECT_FALSE(annotated.points().empty());
}

TEST(FxQuantizer, it_tells_what_it_was_told) {
  const auto x86 = fx::FxQuantizer().describe();
  const auto qnnpack =
      fx::FxQuantizer(fx::get_default_qconfig_mapping("qnnpack"), {}, fx::get_qnnpack_backend_config()).describe();
  EXPECT_EQ(x86.name, "fx");
  EXPECT_EQ(qnnpack.options.at("backend"), "qnnpack");
  EXPECT_NE(x86.settings, qnnpack.settings);
}

}  // namespace
}  // namespace tsquant::testing

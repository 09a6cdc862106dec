#include <gtest/gtest.h>

#include <algorithm>

#include "support/support.h"
#include "tsquant/error.h"
#include "tsquant/openvino_quantizer.h"

namespace tsquant::testing {
namespace {

/// conv -> relu -> conv -> add(conv) -> linear, as TorchScript.
Model small_model() {
  const std::vector<std::pair<std::string, at::Tensor>> params = {
      {"w1", at::rand({4, 3, 3, 3})}, {"w2", at::rand({4, 4, 3, 3})}, {"w3", at::rand({2, 4})}};
  return Model::from(define(R"(
def forward(self, x):
    a = torch.relu(torch.conv2d(x, self.w1, None, [1, 1], [1, 1]))
    b = torch.conv2d(a, self.w2, None, [1, 1], [1, 1])
    c = torch.sin(a + b)
    return torch.linear(c.mean([2, 3]), self.w3, None)
)",
                            params));
}

Annotations annotate(const Model& model, const OpenVINOQuantizerOptions& options = {}) {
  const GraphView view(model);
  const OpenVINOQuantizer quantizer(options);
  const auto annotations = quantizer.annotate(view);
  quantizer.validate(view, annotations);
  return annotations;
}

const QuantizationPoint* point_at(const Annotations& annotations, const std::string& node, PointKind kind) {
  for (const auto& point : annotations.points) {
    if (point.node == node && point.kind == kind) return &point;
  }
  return nullptr;
}

std::string code_of(const Annotations& annotations, const std::string& node) {
  for (const auto& refusal : annotations.refusals) {
    if (refusal.node == node) return refusal.code;
  }
  return "";
}

OpenVINOQuantizerOptions ignoring(const IgnoredScope& scope) {
  OpenVINOQuantizerOptions options;
  options.ignored_scope = scope;
  return options;
}

std::string error_of(const IgnoredScope& scope) {
  try {
    annotate(small_model(), ignoring(scope));
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
    return error.what();
  }
  return "";
}

TEST(OpenVINOQuantizerTest, places_weights_and_activations_by_name) {
  const auto annotations = annotate(small_model());
  const auto* input = point_at(annotations, "x", PointKind::kActivation);
  ASSERT_NE(input, nullptr);
  EXPECT_EQ(input->quantized_nodes, std::vector<std::string>{"/conv2d/0"});
  const auto* weight = point_at(annotations, "/conv2d/0", PointKind::kWeight);
  ASSERT_NE(weight, nullptr);
  EXPECT_EQ(weight->input_port, c10::optional<int64_t>(1));
  EXPECT_TRUE(weight->spec.per_channel && weight->spec.narrow_range && weight->spec.half_range);
  EXPECT_FALSE(point_at(annotations, "/conv2d/1", PointKind::kWeight)->spec.half_range);
  EXPECT_FALSE(input->reason.empty());
}

TEST(OpenVINOQuantizerTest, overflow_fix_decides_about_half_range) {
  OpenVINOQuantizerOptions options;
  options.overflow_fix = OverflowFix::kEnable;
  EXPECT_TRUE(point_at(annotate(small_model(), options), "/linear/0", PointKind::kWeight)->spec.half_range);
  options.overflow_fix = OverflowFix::kDisable;
  EXPECT_FALSE(point_at(annotate(small_model(), options), "/conv2d/0", PointKind::kWeight)->spec.half_range);
}

TEST(OpenVINOQuantizerTest, says_why_operators_stay_in_float) {
  const auto annotations = annotate(small_model());
  EXPECT_EQ(code_of(annotations, "/sin/0"), "not_quantizable");
  EXPECT_EQ(code_of(annotations, "/conv2d/0"), "");
}

TEST(OpenVINOQuantizerTest, ignores_names_and_aliases) {
  for (const std::string name : {"/conv2d/1", "conv2d_1"}) {
    const auto annotations = annotate(small_model(), ignoring({{name}, {}, {}, {}}));
    EXPECT_EQ(point_at(annotations, "/conv2d/1", PointKind::kWeight), nullptr);
    EXPECT_NE(point_at(annotations, "/conv2d/0", PointKind::kWeight), nullptr);
    EXPECT_EQ(code_of(annotations, "/conv2d/1"), "ignored");
  }
}

TEST(OpenVINOQuantizerTest, ignores_patterns) {
  const auto annotations = annotate(small_model(), ignoring({{}, {".*conv2d.*"}, {}, {}}));
  EXPECT_EQ(point_at(annotations, "/conv2d/0", PointKind::kWeight), nullptr);
  EXPECT_EQ(point_at(annotations, "/conv2d/1", PointKind::kWeight), nullptr);
  EXPECT_NE(point_at(annotations, "/linear/0", PointKind::kWeight), nullptr);
}

TEST(OpenVINOQuantizerTest, ignores_types_in_three_spellings) {
  for (const std::string type : {"linear", "aten::linear", "PTLinearMetatype"}) {
    const auto annotations = annotate(small_model(), ignoring({{}, {}, {type}, {}}));
    EXPECT_EQ(point_at(annotations, "/linear/0", PointKind::kWeight), nullptr) << type;
    EXPECT_NE(point_at(annotations, "/conv2d/0", PointKind::kWeight), nullptr) << type;
  }
}

TEST(OpenVINOQuantizerTest, ignores_everything_between_the_ends_of_a_subgraph) {
  IgnoredScope scope;
  scope.subgraphs = {{{"/relu/0"}, {"/sin/0"}}};
  const auto annotations = annotate(small_model(), ignoring(scope));
  EXPECT_EQ(code_of(annotations, "/relu/0"), "ignored");
  EXPECT_EQ(code_of(annotations, "/conv2d/1"), "ignored");
  EXPECT_EQ(code_of(annotations, "/sin/0"), "ignored");
  EXPECT_NE(point_at(annotations, "/conv2d/0", PointKind::kWeight), nullptr);
}

TEST(OpenVINOQuantizerTest, unmatched_rules_are_errors_that_offer_the_nearest_names) {
  EXPECT_NE(error_of({{"/conv2d/7"}, {}, {}, {}}).find("closest: /conv2d/"), std::string::npos);
  EXPECT_NE(error_of({{}, {"layer9.*"}, {}, {}}).find("pattern matches no node (at layer9.*)"), std::string::npos);
  EXPECT_NE(error_of({{}, {}, {"linearr"}, {}}).find("linear"), std::string::npos);
  EXPECT_NE(error_of({{}, {"("}, {}, {}}).find("no regular expression"), std::string::npos);
  IgnoredScope backwards;
  backwards.subgraphs = {{{"/sin/0"}, {"/relu/0"}}};
  IgnoredScope misspelt;
  misspelt.subgraphs = {{{"/relu/0"}, {"/sine/0"}}};
  EXPECT_NE(error_of(misspelt).find("sub-graph end matches no node (at /sine/0); closest: /sin/0"), std::string::npos)
      << error_of(misspelt);
  EXPECT_NE(error_of(backwards).find("is given in reverse: its output /relu/0 comes before its input /sin/0"),
            std::string::npos);
}

TEST(OpenVINOQuantizerTest, unmatched_rules_pass_without_validation) {
  IgnoredScope scope{{"nothing"}, {"layer9.*"}, {"lstm"}, {{{"a"}, {"b"}}}};
  EXPECT_NE(error_of(scope), "");
  scope.validate = false;
  EXPECT_EQ(error_of(scope), "");
}

TEST(OpenVINOQuantizerTest, refuses_unsupported_bit_widths) {
  OpenVINOQuantizerOptions options;
  const auto message = [&] {
    try {
      OpenVINOQuantizer quantizer(options);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
      return std::string(error.what());
    }
    return std::string();
  };
  options.weights_quantization_params.num_bits = 16;
  EXPECT_EQ(message(), "num_bits is 16 (at weights_quantization_params); choose 2 to 8");
  options.weights_quantization_params.num_bits = 2;
  EXPECT_EQ(message(), "");
  options.activations_quantization_params.num_bits = 1;
  EXPECT_EQ(message(), "num_bits is 1 (at activations_quantization_params); choose 2 to 8");
}

TEST(OpenVINOQuantizerTest, operators_inside_branches_are_quantized) {
  Model model = Model::from(define(R"(
def forward(self, x, flag: bool):
    if flag:
        y = torch.relu(torch.conv2d(x, self.w, None, [1, 1], [1, 1]))
    else:
        y = torch.conv2d(x, self.w, None, [1, 1], [1, 1])
    return y
)",
                                   {{"w", at::rand({3, 3, 3, 3})}}));
  const auto annotations = annotate(model);
  const auto weights = std::count_if(annotations.points.begin(), annotations.points.end(),
                                     [](const auto& point) { return point.kind == PointKind::kWeight; });
  EXPECT_EQ(weights, 2);
  EXPECT_NE(point_at(annotations, "x", PointKind::kActivation), nullptr);
}

TEST(OpenVINOQuantizerTest, transposed_convolutions_have_their_output_channels_on_axis_one) {
  Model model = Model::from(define(R"(
def forward(self, x):
    return torch.conv_transpose2d(x, self.w)
)",
                                   {{"w", at::rand({3, 5, 2, 2})}}));
  const auto annotations = annotate(model);
  const auto weight = std::find_if(annotations.points.begin(), annotations.points.end(),
                                   [](const auto& point) { return point.kind == PointKind::kWeight; });
  ASSERT_NE(weight, annotations.points.end());
  EXPECT_EQ(weight->spec.ch_axis, 1);
}

TEST(OpenVINOQuantizerTest, set_ignored_scope_replaces_the_scope) {
  OpenVINOQuantizer quantizer;
  quantizer.set_ignored_scope({{}, {}, {"conv2d"}, {}});
  const Model model = small_model();
  const GraphView view(model);
  EXPECT_EQ(point_at(quantizer.annotate(view), "/conv2d/0", PointKind::kWeight), nullptr);
}

}  // namespace
}  // namespace tsquant::testing

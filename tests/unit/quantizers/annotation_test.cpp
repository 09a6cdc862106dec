#include "tsquant/annotation.h"

#include <gtest/gtest.h>

#include <functional>
#include <nlohmann/json.hpp>

#include "support/support.h"
#include "tsquant/error.h"
#include "tsquant/openvino_quantizer.h"

namespace tsquant::testing {
namespace {

Model linear_model() {
  return Model::from(
      define("def forward(self, x):\n    return torch.linear(x, self.w, None)\n", {{"w", at::rand({4, 3})}}));
}

class Nothing : public Quantizer {
 public:
  Annotations annotate(const GraphView&) const override { return {}; }
};

std::string error_of(const std::function<void()>& work) {
  try {
    work();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
    return error.what();
  }
  return "";
}

TEST(SpecTest, every_field_takes_part_in_the_comparison) {
  const QuantizationSpec base;
  const std::vector<std::function<void(QuantizationSpec&)>> changes = {
      [](auto& s) { s.num_bits = 4; },
      [](auto& s) { s.mode = QuantizationMode::kAsymmetric; },
      [](auto& s) { s.signedness_to_force = true; },
      [](auto& s) { s.per_channel = true; },
      [](auto& s) { s.ch_axis = 1; },
      [](auto& s) { s.narrow_range = true; },
      [](auto& s) { s.half_range = true; },
      [](auto& s) { s.dtype = c10::kChar; },
      [](auto& s) { s.quant_min = -127; },
      [](auto& s) { s.quant_max = 127; },
      [](auto& s) { s.eps = 1e-5; },
      [](auto& s) { s.observer = ObserverKind::kHistogram; },
      [](auto& s) { s.fixed_scale = 0.5; },
      [](auto& s) { s.fixed_zero_point = 3; },
      [](auto& s) { s.destination_type = FP8Type::kE4M3; }};
  EXPECT_TRUE(base == QuantizationSpec());
  for (size_t i = 0; i < changes.size(); ++i) {
    QuantizationSpec changed;
    changes[i](changed);
    EXPECT_FALSE(changed == base) << i;
  }
}

TEST(AnnotateNode, tells_weights_from_activations) {
  const Model model = linear_model();
  const GraphView view(model);
  QuantizationAnnotation annotation;
  annotation.input_qspec_map[0] = {};
  annotation.input_qspec_map[1] = {};
  annotation.output_qspec = QuantizationSpec();
  Annotations annotations;
  annotate_node(annotations, view, "linear", annotation);
  ASSERT_EQ(annotations.points.size(), 3u);
  EXPECT_EQ(annotations.points[0].kind, PointKind::kActivation);
  EXPECT_EQ(annotations.points[1].kind, PointKind::kWeight);
  EXPECT_FALSE(annotations.points[2].input_port);
  EXPECT_EQ(annotations.find(annotations.points[1].id), &annotations.points[1]);
  EXPECT_EQ(annotations.find(99), nullptr);
  Nothing().validate(view, annotations);
}

TEST(AnnotateNode, refuses_unknown_places) {
  const Model model = linear_model();
  const GraphView view(model);
  Annotations annotations;
  QuantizationAnnotation annotation;
  annotation.input_qspec_map[7] = {};
  EXPECT_NE(error_of([&] { annotate_node(annotations, view, "linear_5", annotation); }).find("closest: "),
            std::string::npos);
  EXPECT_NE(error_of([&] { annotate_node(annotations, view, "linear", annotation); }).find("no tensor argument 7"),
            std::string::npos);
}

/// A valid set of annotations that a test then breaks.
Annotations valid_annotations(const GraphView& view) {
  QuantizationAnnotation annotation;
  annotation.input_qspec_map[0] = {};
  annotation.input_qspec_map[1] = {};
  Annotations annotations;
  annotate_node(annotations, view, "linear", annotation);
  annotations.unified_scale_groups = {{1, 2}};
  return annotations;
}

TEST(Validate, names_each_inconsistency) {
  const Model model = linear_model();
  const GraphView view(model);
  const std::vector<std::pair<std::string, std::function<void(Annotations&)>>> cases = {
      {"a node that the graph does not have", [](auto& a) { a.points[0].node = "nowhere"; }},
      {"names tensor argument 5", [](auto& a) { a.points[0].input_port = 5; }},
      {"a weight point needs an input port", [](auto& a) { a.points[1].input_port = c10::nullopt; }},
      {"num_bits is 9", [](auto& a) { a.points[0].spec.num_bits = 9; }},
      {"only one of quant_min and quant_max", [](auto& a) { a.points[0].spec.quant_min = 0; }},
      {"is not below quant_max", [](auto& a) { a.points[0].spec.quant_min = a.points[0].spec.quant_max = 7; }},
      {"fixed_scale must be positive", [](auto& a) { a.points[0].spec.fixed_scale = 0; }},
      {"fixed_zero_point needs a fixed_scale", [](auto& a) { a.points[0].spec.fixed_zero_point = 1; }},
      {"ch_axis is -1",
       [](auto& a) {
         a.points[0].spec.per_channel = true;
         a.points[0].spec.ch_axis = -1;
       }},
      {"a destination_type cannot be combined with dtype",
       [](auto& a) {
         a.points[0].spec.destination_type = FP8Type::kE5M2;
         a.points[0].spec.dtype = c10::kChar;
       }},
      {"two points have the id 1", [](auto& a) { a.points[1].id = 1; }},
      {"stand at one place", [](auto& a) { a.points[1].input_port = 0; }},
      {"names point 8, which does not exist",
       [](auto& a) {
         a.unified_scale_groups = {{1, 8}};
       }},
      {"points 1 and 2 share one scale, but their specs differ", [](auto& a) { a.points[1].spec.per_channel = true; }}};
  Nothing().validate(view, valid_annotations(view));
  for (const auto& [message, damage] : cases) {
    Annotations annotations = valid_annotations(view);
    damage(annotations);
    const std::string error = error_of([&] { Nothing().validate(view, annotations); });
    EXPECT_NE(error.find(message), std::string::npos) << message << " / " << error;
  }
}

TEST(AnnotationsJson, lists_quantizers_and_the_edges_they_act_on) {
  const Model model = linear_model();
  const GraphView view(model);
  const auto annotations = OpenVINOQuantizer().annotate(view);
  const auto json = nlohmann::json::parse(to_json(annotations, view));
  ASSERT_EQ(json["quantizers"].size(), 2u);
  ASSERT_EQ(json["edges"].size(), 2u);
  EXPECT_EQ(json["edges"][0]["producer"], "x");
  EXPECT_EQ(json["edges"][1]["producer"], "w");
  EXPECT_EQ(json["edges"][1]["consumer"], view.find("linear")->name);
  EXPECT_EQ(json["edges"][1]["input_port"], 1);
  EXPECT_EQ(json["quantizers"][1]["kind"], "weight");
  EXPECT_EQ(json["quantizers"][1]["signedness_to_force"], true);
  EXPECT_TRUE(json["quantizers"][0]["signedness_to_force"].is_null());
  EXPECT_EQ(to_json(annotations, view), to_json(annotations, view));
}

}  // namespace
}  // namespace tsquant::testing

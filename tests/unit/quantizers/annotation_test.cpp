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
      [](auto& s) { s.format = Format::kInt4; },
      [](auto& s) { s.mode = QuantizationScheme::kAsymmetric; },
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
      [](auto& s) { s.float_zero_point = true; },
      [](auto& s) { s.limits_of_observer = true; },
      [](auto& s) { s.group_size = 32; },
      [](auto& s) { s.group_axis = 0; },
      [](auto& s) {
        s.codebook = {0, 1};
      },
      [](auto& s) { s.formula = QParamsFormula::kTorchAo; }};
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

Model chain_model() {
  return Model::from(define(R"(
def forward(self, x):
    a = torch.relu(x)
    b = torch.relu(a)
    return torch.relu(b)
)"));
}

QuantizationAnnotation result_spec() {
  QuantizationAnnotation annotation;
  annotation.output_qspec = QuantizationSpec();
  return annotation;
}

QuantizationAnnotation shares(const std::string& producer) {
  QuantizationAnnotation annotation;
  annotation.shared_output = SharedQuantizationSpec{producer, ""};
  return annotation;
}

// Ids, roots and groups come from what earlier calls found; each edit by hand must be seen by the next call.
TEST(AnnotateNode, sees_what_was_edited_between_calls) {
  const Model model = chain_model();
  const GraphView view(model);
  Annotations annotations;
  annotate_node(annotations, view, "relu", result_spec());
  annotations.points.push_back(annotations.points.back());
  annotations.points.back().id = 40;
  annotations.points.back().node = view.find("relu_1")->name;
  annotate_node(annotations, view, "relu_2", shares("relu_1"));
  EXPECT_EQ(annotations.points.back().id, 41);
  EXPECT_EQ(annotations.unified_scale_groups, (std::vector<std::vector<int64_t>>{{40, 41}}));
  Nothing().validate(view, annotations);

  annotations.points.resize(1);
  annotations.unified_scale_groups.clear();
  EXPECT_NE(error_of([&] { annotate_node(annotations, view, "relu_2", shares("relu_1")); }).find("not annotated"),
            std::string::npos);
  annotate_node(annotations, view, "relu_1", shares("relu"));
  EXPECT_EQ(annotations.points.back().id, 2);

  // The group is replaced by another one: the count stays the same.
  annotations.unified_scale_groups = {{7, 8}};
  annotate_node(annotations, view, "relu_2", shares("relu"));
  EXPECT_EQ(annotations.unified_scale_groups, (std::vector<std::vector<int64_t>>{{7, 8}, {1, 3}}));
}

TEST(AnnotateNode, a_copy_goes_its_own_way) {
  const Model model = chain_model();
  const GraphView view(model);
  Annotations first;
  annotate_node(first, view, "relu", result_spec());
  Annotations second = first;
  annotate_node(first, view, "relu_1", shares("relu"));
  annotate_node(second, view, "relu_2", shares("relu"));
  EXPECT_EQ(first.points.back().node, view.find("relu_1")->name);
  EXPECT_EQ(second.points.back().node, view.find("relu_2")->name);
  EXPECT_EQ(second.points.back().id, 2);
  // A chain of shared specs stays one group.
  annotate_node(first, view, "relu_2", shares("relu_1"));
  EXPECT_EQ(first.unified_scale_groups, (std::vector<std::vector<int64_t>>{{1, 2, 3}}));
  second = std::move(first);
  EXPECT_EQ(second.find(3), &second.points[2]);
}

TEST(Annotations, find_needs_no_order) {
  Annotations annotations;
  for (const int64_t id : {5, 2, 9, 1, 7}) {
    annotations.points.emplace_back();
    annotations.points.back().id = id;
  }
  for (const auto& point : annotations.points) EXPECT_EQ(annotations.find(point.id), &point);
  EXPECT_EQ(annotations.find(3), nullptr);
  EXPECT_EQ(Annotations().find(1), nullptr);
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
      {"group_size is -1", [](auto& a) { a.points[1].spec.group_size = -1; }},
      {"group_size is set for an activation", [](auto& a) { a.points[0].spec.group_size = 32; }},
      {"fixed parameters have no groups",
       [](auto& a) {
         a.points[1].spec.group_size = 32;
         a.points[1].spec.fixed_scale = 1;
       }},
      {"group_size is 16, but a scale of mxfp4 is for 32 values",
       [](auto& a) {
         a.points[1].spec.format = Format::kMxFp4;
         a.points[1].spec.group_size = 16;
       }},
      {"a codebook is given for the format int8",
       [](auto& a) {
         a.points[1].spec.codebook = {0, 1};
       }},
      {"a codebook of 0 levels", [](auto& a) { a.points[1].spec.format = Format::kCodebook4; }},
      {"half_range needs a symmetric weight", [](auto& a) { a.points[0].spec.half_range = true; }},
      {"only one of quant_min and quant_max", [](auto& a) { a.points[0].spec.quant_min = 0; }},
      {"is not below quant_max", [](auto& a) { a.points[0].spec.quant_min = a.points[0].spec.quant_max = 7; }},
      {"fixed_scale must be positive", [](auto& a) { a.points[0].spec.fixed_scale = 0; }},
      {"fixed_zero_point needs a fixed_scale", [](auto& a) { a.points[0].spec.fixed_zero_point = 1; }},
      {"limits_of_observer is for activations", [](auto& a) { a.points[0].spec.limits_of_observer = true; }},
      {"ch_axis is -1",
       [](auto& a) {
         a.points[0].spec.per_channel = true;
         a.points[0].spec.ch_axis = -1;
       }},
      {"the format f8e5m2 cannot be combined with dtype",
       [](auto& a) {
         a.points[0].spec.format = Format::kF8E5M2;
         a.points[0].spec.dtype = c10::kChar;
       }},
      {"two points have the id 1", [](auto& a) { a.points[1].id = 1; }},
      {"stand at one place", [](auto& a) { a.points[1].input_port = 0; }},
      {"names point 8, which does not exist",
       [](auto& a) {
         a.unified_scale_groups = {{1, 8}};
       }},
      {"point 2 is twice in the unified groups",
       [](auto& a) {
         a.unified_scale_groups = {{1, 2}, {2}};
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

TEST(AnnotationsJson, shows_every_field_that_is_set) {
  const Model model = linear_model();
  const GraphView view(model);
  const std::vector<std::pair<std::string, std::function<void(QuantizationSpec&)>>> changes = {
      {"num_bits", [](auto& s) { s.format = Format::kInt4; }},
      {"mode", [](auto& s) { s.mode = QuantizationScheme::kAsymmetric; }},
      {"signedness_to_force", [](auto& s) { s.signedness_to_force = true; }},
      {"per_channel", [](auto& s) { s.per_channel = true; }},
      {"ch_axis", [](auto& s) { s.ch_axis = 1; }},
      {"narrow_range", [](auto& s) { s.narrow_range = true; }},
      {"half_range", [](auto& s) { s.half_range = true; }},
      {"dtype", [](auto& s) { s.dtype = c10::kChar; }},
      {"quant_min", [](auto& s) { s.quant_min = -127; }},
      {"quant_max", [](auto& s) { s.quant_max = 127; }},
      {"observer", [](auto& s) { s.observer = ObserverKind::kHistogram; }},
      {"fixed_scale", [](auto& s) { s.fixed_scale = 0.5; }},
      {"fixed_zero_point", [](auto& s) { s.fixed_zero_point = 3; }},
      {"float_zero_point", [](auto& s) { s.float_zero_point = true; }},
      {"limits_of_observer", [](auto& s) { s.limits_of_observer = true; }},
      {"destination_type", [](auto& s) { s.format = Format::kF8E4M3; }},
      {"group_size", [](auto& s) { s.group_size = 32; }},
      {"group_axis", [](auto& s) { s.group_size = 32; }},
      {"codebook",
       [](auto& s) {
         s.codebook = {0, 1};
       }},
      {"formula", [](auto& s) { s.formula = QParamsFormula::kTorchAo; }}};
  auto annotations = valid_annotations(view);
  const auto plain = nlohmann::json::parse(to_json(annotations, view))["quantizers"][0];
  for (const auto& [field, change] : changes) {
    auto changed = annotations;
    change(changed.points[0].spec);
    const auto json = nlohmann::json::parse(to_json(changed, view))["quantizers"][0];
    ASSERT_TRUE(json.contains(field)) << field;
    EXPECT_NE(json[field], plain.value(field, nlohmann::json())) << field;
  }
  annotations.points[0].reason = "because";
  annotations.refusals.push_back({"linear", "ignored", "named by a rule"});
  const auto json = nlohmann::json::parse(to_json(annotations, view));
  EXPECT_EQ(json["quantizers"][0]["reason"], "because");
  EXPECT_EQ(json["refusals"][0]["reason"], "named by a rule");
  EXPECT_EQ(json["unified_scale_groups"][0].size(), 2u);
}

}  // namespace
}  // namespace tsquant::testing

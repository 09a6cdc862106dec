#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "passes/rewrite_runner.h"
#include "support/support.h"
#include "tsquant/annotation.h"
#include "tsquant/error.h"
#include "tsquant/openvino_quantizer.h"

namespace tsquant::testing {
namespace {

using nlohmann::json;

/// Two convolutions whose results are concatenated in front of a third.
Model concat_model() {
  return Model::from(
      define(R"(
def forward(self, x):
    a = torch.conv2d(x, self.w1)
    b = torch.conv2d(x, self.w2)
    return torch.conv2d(torch.cat([a, b], 1), self.w3)
)",
             {{"w1", at::rand({4, 3, 1, 1})}, {"w2", at::rand({4, 3, 1, 1})}, {"w3", at::rand({2, 8, 1, 1})}}));
}

QuantizationSpec activation() {
  QuantizationSpec spec;
  spec.dtype = c10::kByte;
  spec.quant_min = 0;
  spec.quant_max = 255;
  return spec;
}

QuantizationAnnotation output(const QuantizationSpec& spec) {
  QuantizationAnnotation annotation;
  annotation.output_qspec = spec;
  return annotation;
}

QuantizationAnnotation shared_output(const std::string& producer, const std::string& consumer = "") {
  QuantizationAnnotation annotation;
  annotation.shared_output = SharedQuantizationSpec{producer, consumer};
  return annotation;
}

TEST(SharedSpecs, join_the_group_of_their_root) {
  const Model model = concat_model();
  const GraphView view(model);
  Annotations annotations;
  annotate_node(annotations, view, "conv2d", output(activation()));
  annotate_node(annotations, view, "conv2d_1", shared_output("conv2d"));
  QuantizationAnnotation last;
  last.shared_input_map[0] = {"conv2d_1", ""};
  annotate_node(annotations, view, "conv2d_2", last);
  ASSERT_EQ(annotations.points.size(), 3u);
  ASSERT_EQ(annotations.unified_scale_groups.size(), 1u);
  EXPECT_EQ(annotations.unified_scale_groups[0], (std::vector<int64_t>{1, 2, 3}));
  for (const auto& point : annotations.points) EXPECT_TRUE(point.spec == activation());
}

TEST(SharedSpecs, name_edges_too) {
  const Model model = concat_model();
  const GraphView view(model);
  Annotations annotations;
  QuantizationAnnotation first;
  first.input_qspec_map[0] = activation();
  annotate_node(annotations, view, "conv2d", first);
  annotate_node(annotations, view, "conv2d_1", shared_output("x", "conv2d"));
  EXPECT_EQ(annotations.unified_scale_groups.size(), 1u);
  EXPECT_TRUE(annotations.points[1].spec == activation());
}

TEST(SharedSpecs, need_an_annotated_root) {
  const Model model = concat_model();
  const GraphView view(model);
  const auto message = [&](const QuantizationAnnotation& annotation) -> std::string {
    Annotations annotations;
    try {
      annotate_node(annotations, view, "conv2d_1", annotation);
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  };
  EXPECT_NE(message(shared_output("conv2d")).find("the result of " + view.find("conv2d")->name), std::string::npos);
  EXPECT_NE(message(shared_output("x", "conv2d")).find("the edge from x to " + view.find("conv2d")->name),
            std::string::npos);
  EXPECT_NE(message(shared_output("conv3d")).find("no node \"conv3d\""), std::string::npos);
}

TEST(Pt2eForm, makes_the_earliest_quantizer_the_root) {
  const Model model = concat_model();
  const GraphView view(model);
  Annotations annotations;
  // Annotated in reverse order on purpose: the root is decided by the graph.
  annotate_node(annotations, view, "conv2d_1", output(activation()));
  annotate_node(annotations, view, "conv2d", shared_output("conv2d_1"));
  const auto form = pt2e_annotations(annotations, view);
  ASSERT_TRUE(form.at(view.find("conv2d")->name).output_qspec);
  EXPECT_FALSE(form.at(view.find("conv2d")->name).shared_output);
  ASSERT_TRUE(form.at(view.find("conv2d_1")->name).shared_output);
  EXPECT_EQ(form.at(view.find("conv2d_1")->name).shared_output->producer, view.find("conv2d")->name);
}

TEST(Pt2eForm, annotating_it_again_gives_the_same_annotations) {
  const Model model = concat_model();
  const GraphView view(model);
  const auto annotations = OpenVINOQuantizer().annotate(view);
  ASSERT_FALSE(annotations.unified_scale_groups.empty());
  Annotations again;
  const auto form = pt2e_annotations(annotations, view);
  for (const auto& node : view.nodes()) {
    if (form.count(node.name)) annotate_node(again, view, node.name, form.at(node.name));
  }
  EXPECT_EQ(pt2e_json(again, view), pt2e_json(annotations, view));
}

/// Goldens: annotations that OpenVINOQuantizer.annotate of NNCF makes (its FX backend on the same graphs).
class Pt2eGolden : public ::testing::TestWithParam<std::string> {};

TEST_P(Pt2eGolden, annotations_equal_those_of_nncf) {
  const std::string name = GetParam().substr(0, GetParam().find('.'));
  const std::string variant = GetParam().substr(name.size() + 1);
  std::ifstream file(data_file("pt2e/" + GetParam() + ".json"));
  const json golden = json::parse(file);
  Model model = Model::load(data_file("traces/" + name + ".pt"));
  run_passes(model, {});
  OpenVINOQuantizerOptions options;
  if (variant == "mixed") options.preset = QuantizationPreset::kMixed;
  if (variant == "transformer") options.model_type = ModelType::kTransformer;
  const GraphView view(model);
  json expected = json::object(), got = json::object();
  for (const auto& node : golden["annotations"]) {
    if (node["inputs"].empty() && node["output"].is_null()) continue;
    expected[node["node"].get<std::string>()] = {{"inputs", node["inputs"]}, {"output", node["output"]}};
  }
  const json ours = json::parse(pt2e_json(OpenVINOQuantizer(options).annotate(view), view));
  for (const auto& node : ours["annotations"]) {
    got[node["node"].get<std::string>()] = {{"inputs", node["inputs"]}, {"output", node["output"]}};
  }
  EXPECT_EQ(got, expected) << json::diff(expected, got).dump(1);
}

INSTANTIATE_TEST_SUITE_P(Models, Pt2eGolden,
                         ::testing::Values("simple_concat_model.default", "squeezenet1_1.mixed", "inception_v3.default",
                                           "synthetic_transformer.transformer", "resnet18.default"),
                         [](const auto& info) {
                           auto name = info.param;
                           std::replace(name.begin(), name.end(), '.', '_');
                           return name;
                         });

}  // namespace
}  // namespace tsquant::testing

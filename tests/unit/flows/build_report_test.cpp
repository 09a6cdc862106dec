// What the report says about operators: quantized, fused, moving codes, in float and why, not reached.
#include <gtest/gtest.h>
#include <tsquant/tsquant.h>

#include "flows/prepared_model.h"
#include "support/support.h"

namespace tsquant::testing {
namespace {

using Codes = std::map<std::string, std::string>;

std::map<std::string, NodeRecord> records(const Report& report) {
  std::map<std::string, NodeRecord> result;
  for (const auto& node : report.nodes) result.emplace(node.name, node);
  return result;
}

Codes codes(const Report& report) {
  Codes result;
  for (const auto& node : report.nodes) result.emplace(node.name, node.code);
  return result;
}

Report report_of(const torch::jit::Module& module, const Dataset& data, const OpenVINOQuantizerOptions& options = {},
                 OutputForm form = OutputForm::kReference) {
  Model model = Model::from(module);
  OpenVINOQuantizer quantizer(options);
  QuantizePt2eOptions pt2e;
  pt2e.form = form;
  return quantize_pt2e(model, quantizer, data, pt2e).report;
}

Dataset one_input(const std::vector<int64_t>& shape) {
  at::manual_seed(2);
  return Dataset::from_tensors({at::randn(shape), at::randn(shape)});
}

std::string joined(const std::vector<std::string>& lines) {
  std::string text;
  for (const auto& line : lines) text += line + "\n";
  return text;
}

torch::jit::Module with_movers() {
  at::manual_seed(1);
  return define(R"(
def forward(self, x):
    y = torch.conv2d(x, self.w1)
    z = torch.transpose(torch.reshape(y, [1, 4, 9]), 1, 2)
    p = torch.softmax(torch.linear(z, self.w2), -1)
    return torch.flatten(p, 1)
)",
                {{"w1", at::randn({4, 3, 1, 1})}, {"w2", at::randn({5, 4})}});
}

TEST(BuildReport, EveryMoverBehindAQuantizerMovesCodes) {
  const Codes expected{{"/conv2d/0", "quantized"}, {"/reshape/0", "passes_codes"},    {"/transpose/0", "passes_codes"},
                       {"/linear/0", "quantized"}, {"/softmax/0", "not_quantizable"}, {"/flatten/0", "float_values"}};
  EXPECT_EQ(codes(report_of(with_movers(), one_input({1, 3, 3, 3}))), expected);
}

TEST(BuildReport, KernelsOnCodesAreNotCalledFloat) {
  const auto report = report_of(with_movers(), one_input({1, 3, 3, 3}), {}, OutputForm::kLowered);
  int on_codes = 0;
  for (const auto& node : report.nodes) {
    if (node.kernel.find("on codes") == std::string::npos) continue;
    ++on_codes;
    EXPECT_EQ(node.code, "passes_codes") << node.name << node.kernel;
  }
  EXPECT_EQ(on_codes, 2);
}

TEST(BuildReport, ConcatenationOfDifferentScalesIsNoMoveOfCodes) {
  at::manual_seed(1);
  const auto module =
      define(R"(
def forward(self, x):
    a, b = torch.conv2d(x, self.w1), torch.conv2d(x, self.w2)
    return torch.conv2d(torch.flatten(torch.cat([a, b], 1), 2).unsqueeze(3), self.w3)
)",
             {{"w1", at::randn({4, 3, 1, 1})}, {"w2", at::randn({4, 3, 1, 1})}, {"w3", at::randn({2, 8, 1, 1})}});
  Model model = Model::from(module);
  OpenVINOQuantizer quantizer;
  const auto prepared = prepare_model(model, quantizer, one_input({1, 3, 4, 4}), {});
  EXPECT_EQ(codes(prepared.report).at("/cat/0"), "passes_codes");
  EXPECT_EQ(codes(prepared.report).at("/flatten/0"), "passes_codes");

  // The same points without the group: each part has its own scale.
  class Split : public OpenVINOQuantizer {
    Annotations annotate(const GraphView& view) const override {
      auto annotations = OpenVINOQuantizer::annotate(view);
      annotations.unified_scale_groups.clear();
      return annotations;
    }
  } split;
  const auto apart = codes(prepare_model(model, split, one_input({1, 3, 4, 4}), {}).report);
  EXPECT_EQ(apart.at("/cat/0"), "mixed_scales");
  EXPECT_EQ(apart.at("/flatten/0"), "float_values");
}

TEST(BuildReport, ElementsOfAFloatListMoveFloatValues) {
  at::manual_seed(1);
  const auto module = define(R"(
def forward(self, x):
    a, b = torch.chunk(torch.softmax(torch.linear(x, self.w), -1), 2, 1)
    return a, b
)",
                             {{"w", at::randn({4, 4})}});
  const auto report = report_of(module, one_input({2, 4}));
  int elements = 0;
  for (const auto& node : report.nodes) {
    if (node.type != "__getitem__") continue;
    ++elements;
    EXPECT_EQ(node.code, "float_values") << node.name;
  }
  EXPECT_EQ(elements, 2);
  EXPECT_NE(report.summary().find("1 of 5 operators quantized"), std::string::npos) << report.summary();
}

TEST(BuildReport, ResultsOfBranchesAreNotUnknownOperators) {
  at::manual_seed(1);
  const auto module = define(R"(
def forward(self, x, flip: bool):
    y = torch.softmax(torch.linear(x, self.w), -1)
    if flip:
        z = torch.sin(y)
    else:
        z = torch.cos(y)
    return z
)",
                             {{"w", at::randn({4, 4})}});
  at::manual_seed(2);
  const auto report = report_of(module, Dataset(std::vector<Sample>{{{at::randn({2, 4}), true}, {}}}));
  EXPECT_EQ(codes(report).at("/if/0"), "control_flow");
  EXPECT_EQ(codes(report).at("/cos/0"), "not_reached");
  EXPECT_EQ(records(report).at("/cos/0").reason, "stands in a branch that the first sample does not take");
  EXPECT_NE(report.summary().find("1 of 3 operators quantized"), std::string::npos) << report.summary();
}

torch::jit::Module with_hardswish() {
  at::manual_seed(1);
  return define(R"(
def forward(self, x):
    y = torch.conv2d(x, self.w1, self.b1)
    y = y * torch.hardtanh(y + 3.0, 0.0, 6.0) / 6.0
    return torch.conv2d(y, self.w2)
)",
                {{"w1", at::randn({4, 3, 1, 1})}, {"b1", at::randn({4})}, {"w2", at::randn({5, 4, 1, 1})}});
}

TEST(BuildReport, MembersOfAFusedGroupNameItsFirst) {
  const auto nodes = records(report_of(with_hardswish(), one_input({1, 3, 4, 4})));
  for (const std::string name : {"/add/0", "/hardtanh/0", "/mul/0", "/div/0"}) {
    EXPECT_EQ(nodes.at(name).code, "fused") << name;
    EXPECT_EQ(nodes.at(name).reason, "runs inside /conv2d/0");
    EXPECT_FALSE(nodes.at(name).quantized);
  }
}

TEST(BuildReport, MembersOfAGroupInFloatSaySo) {
  OpenVINOQuantizerOptions options;
  options.ignored_scope.names = {"/conv2d/0"};
  const auto nodes = records(report_of(with_hardswish(), one_input({1, 3, 4, 4}), options));
  EXPECT_EQ(nodes.at("/conv2d/0").code, "ignored");
  EXPECT_EQ(nodes.at("/mul/0").code, "fused_with_float");
  EXPECT_EQ(nodes.at("/mul/0").reason, "runs inside /conv2d/0, which stays in float");
}

TEST(BuildReport, MembersLoseTheirGroupWithItsFirst) {
  Model model = Model::from(with_hardswish());
  OpenVINOQuantizer quantizer;
  const auto prepared = prepare_model(model, quantizer, one_input({1, 3, 4, 4}), {});
  std::set<int64_t> points;
  for (const auto& point : prepared.annotations.points) {
    if (point.quantized_nodes == std::vector<std::string>{"/conv2d/0"}) points.insert(point.id);
  }
  ASSERT_EQ(points.size(), 2u);
  const auto nodes = records(convert_without(prepared, {}, points, {"/conv2d/0"}).report);
  EXPECT_EQ(nodes.at("/conv2d/0").code, "reverted");
  EXPECT_EQ(nodes.at("/div/0").code, "fused_with_float");
  EXPECT_EQ(nodes.at("/conv2d/1").code, "quantized");
}

torch::jit::Module with_branch() {
  at::manual_seed(1);
  return define(R"(
def forward(self, x, deep: bool):
    y = torch.linear(x, self.w1)
    if deep:
        y = torch.linear(torch.sin(y), self.w2)
    return torch.linear(y, self.w3)
)",
                {{"w1", at::randn({4, 4})}, {"w2", at::randn({4, 4})}, {"w3", at::randn({4, 4})}});
}

Dataset deep_samples(const std::vector<bool>& deep) {
  at::manual_seed(2);
  std::vector<Sample> samples;
  for (const bool value : deep) samples.push_back({{at::randn({2, 4}), value}, {}});
  return Dataset(samples);
}

TEST(BuildReport, BranchThatNoSampleTakesDoesNotCount) {
  const auto report = report_of(with_branch(), deep_samples({false, false}));
  const auto nodes = records(report);
  EXPECT_EQ(nodes.at("/sin/0").code, "not_reached");
  EXPECT_EQ(nodes.at("/linear/1").code, "not_reached");
  EXPECT_EQ(nodes.at("/linear/1").reason, "stands in a branch that no sample takes; its weight is quantized");
  EXPECT_EQ(report.quantized_count(), 2);
  const std::string summary = report.summary();
  EXPECT_NE(summary.find("2 of 2 operators quantized, 0 fused, 0 move codes, 0 in float\n"
                         "2 more operators stand in branches that no sample took"),
            std::string::npos)
      << summary;
  EXPECT_NE(joined(report.warnings).find("no sample reached a quantizer (/sin/0)"), std::string::npos)
      << joined(report.warnings);
}

TEST(BuildReport, BranchOfALaterSampleCounts) {
  const auto report = report_of(with_branch(), deep_samples({false, true}));
  EXPECT_EQ(codes(report).at("/linear/1"), "quantized");
  EXPECT_EQ(codes(report).at("/sin/0"), "not_quantizable");
  EXPECT_EQ(report.quantized_count(), 3);
  EXPECT_EQ(joined(report.warnings).find("no sample"), std::string::npos);
}

TEST(BuildReport, IntegersAreNotCalledUnreached) {
  at::manual_seed(1);
  const auto module = define(R"(
def forward(self, x):
    y = torch.linear(x, self.w)
    a, b = torch.argmax(y, 1), torch.argmin(y, 1)
    return y, a + b
)",
                             {{"w", at::randn({4, 4})}});
  const auto report = report_of(module, one_input({2, 4}));
  EXPECT_EQ(codes(report).at("/linear/0"), "quantized");
  EXPECT_EQ(codes(report).at("/add/0"), "not_floating");
  EXPECT_EQ(report.quantized_count(), 1);
  const std::string warnings = joined(report.warnings);
  EXPECT_NE(warnings.find("integers arrive at 2 quantizers (/a"), std::string::npos) << warnings;
  EXPECT_EQ(warnings.find("no sample reached"), std::string::npos) << warnings;
}

TEST(BuildReport, UserQuantizerThatAsksForNothingIsNamed) {
  class WeightsOfTheFirst : public Quantizer {
    Annotations annotate(const GraphView& view) const override {
      Annotations annotations;
      QuantizationAnnotation annotation;
      annotation.input_qspec_map[0] = annotation.input_qspec_map[1] = {};
      annotate_node(annotations, view, "/conv2d/0", annotation);
      return annotations;
    }
  } quantizer;
  Model model = Model::from(with_hardswish());
  const auto report = quantize_pt2e(model, quantizer, one_input({1, 3, 4, 4})).report;
  EXPECT_EQ(codes(report).at("/conv2d/1"), "not_annotated");
}

}  // namespace
}  // namespace tsquant::testing

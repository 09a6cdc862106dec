// SmoothQuant on graphs that the reference does not meet: it must keep the function whatever the graph looks like.
#include "algorithms/smooth_quant.h"

#include <gtest/gtest.h>
#include <tsquant/tsquant.h>

#include <set>

#include "algorithms/smooth_scale.h"
#include "graph/names.h"
#include "graph/op_table.h"
#include "graph/params.h"
#include "passes/rewrite_runner.h"
#include "support/rewrite.h"
#include "support/support.h"

namespace tsquant::testing {
namespace {

/// Samples whose first channel is much wider than the others.
Dataset outliers(const std::vector<int64_t>& shape, int64_t axis, int count = 4) {
  std::vector<at::Tensor> samples;
  for (int i = 0; i < count; ++i) {
    at::Tensor x = at::randn(shape);
    x.select(axis, 0).mul_(50);
    samples.push_back(x);
  }
  return Dataset::from_tensors(samples);
}

struct Smoothed {
  Model model;
  SmoothQuantResult result;
};

/// Smooths a copy and checks that it computes the same.
Smoothed smooth(const torch::jit::Module& module, const Dataset& data, const SmoothQuantParameters& parameters = {}) {
  const Model original = Model::from(module);
  Smoothed smoothed{original.clone(), {}};
  smoothed.result = smooth_quant(smoothed.model, data, parameters, {});
  for (int64_t i = 0; i < data.length(); ++i) {
    expect_same(original.run(data.get(i)), smoothed.model.run(data.get(i)));
  }
  return smoothed;
}

size_t multiplies(const Model& model) {
  const GraphView view(model);
  size_t count = 0;
  for (const auto& node : view.nodes()) count += node.type == "smooth_quant";
  return count;
}

TEST(SmoothScale, FollowsTheFormula) {
  const auto a = torch::tensor({4.f, 1.f, 9.f, 16.f}), w = torch::tensor({1.f, 1.f, 4.f, 1.f});
  const auto half = smooth_scale(a, w, 0.5);
  // sqrt(a / w) = 2, 1, 1.5, 4; the 0.1-quantile of these is 1 + 0.3 * (1.5 - 1).
  EXPECT_TRUE(at::allclose(half.scale, torch::tensor({2.f, 1.15f, 1.5f, 4.f}), 1e-5));
  EXPECT_NEAR(half.ratio, 1.15 / 4, 1e-5);
  EXPECT_TRUE(at::allclose(smooth_scale(a, w, 1).scale.select(0, 3), torch::tensor(16.f), 1e-5));
}

TEST(SmoothScale, LimitsScaleAndStatistics) {
  const auto scale = smooth_scale(torch::tensor({0.f, 1e6f}), torch::tensor({0.f, 0.f}), 1).scale;
  EXPECT_FLOAT_EQ(scale[1].item<float>(), 100);
  EXPECT_GT(scale[0].item<float>(), 0);
}

TEST(SmoothScale, GroupedWeights) {
  // Two groups: input channels 0, 1 are read by output channel 0; 2, 3 by output channel 1.
  const auto weight = torch::tensor({1.f, -2.f, 3.f, 4.f}).reshape({2, 2, 1, 1});
  EXPECT_EQ(input_channels(weight, 2), 4);
  EXPECT_TRUE(at::equal(input_channel_maxima(weight, 2), torch::tensor({1.f, 2.f, 3.f, 4.f})));
  const auto scaled = scale_input_channels(weight, torch::tensor({1.f, 10.f, 100.f, 1000.f}), 2);
  EXPECT_TRUE(at::equal(scaled.flatten(), torch::tensor({1.f, -20.f, 300.f, 4000.f})));
  EXPECT_TRUE(at::equal(input_channel_maxima(weight, 1), torch::tensor({3.f, 4.f})));
}

TEST(SmoothQuant, OneMultiplyForLayersWithOneInput) {
  const auto module = define(
      "def forward(self, x):\n    y = torch.relu(x)\n"
      "    return torch.linear(y, self.q) * torch.linear(y, self.k, self.b)\n",
      {{"q", at::randn({6, 8})}, {"k", at::randn({6, 8})}, {"b", at::randn({6})}});
  const auto data = outliers({2, 3, 8}, -1);
  const auto smoothed = smooth(module, data);
  ASSERT_EQ(smoothed.result.groups.size(), 1u);
  const auto& group = smoothed.result.groups[0];
  EXPECT_EQ(group.producer, "/relu/0");
  EXPECT_EQ(group.multiply, "/relu/0/smooth_quant/0");
  EXPECT_EQ(group.layers, (std::vector<std::string>{"/linear/0", "/linear/1"}));
  EXPECT_EQ(multiplies(smoothed.model), 1u);
  EXPECT_TRUE(smoothed.result.warnings.empty());
  // Weights keep their names; the caller's module keeps its values.
  const auto after = smoothed.model.module().attr("q").toTensor(), before = module.attr("q").toTensor();
  EXPECT_TRUE(at::allclose(after, before * group.scale));
  EXPECT_FALSE(at::allclose(after, before));
  const GraphView view(smoothed.model);
  const ViewNode* multiply = view.find("relu_0_0_nncf_smooth_quant_0");
  ASSERT_TRUE(multiply);
  EXPECT_EQ(multiply->name, group.multiply);
  EXPECT_EQ(multiply->op->metatype, "SmoothQuantMultiply");
  EXPECT_EQ(multiply->out_edges.size(), 2u);
}

TEST(SmoothQuant, AlphasSwitchKindsOff) {
  const auto module = define(
      "def forward(self, x):\n    y = torch.conv2d(torch.relu(x), self.c)\n"
      "    return torch.linear(torch.relu(y.mean([2, 3])), self.w)\n",
      {{"c", at::randn({6, 4, 3, 3})}, {"w", at::randn({3, 6})}});
  const auto data = outliers({1, 4, 6, 6}, 1);
  EXPECT_EQ(smooth(module, data, {-1, 0.95}).result.groups.at(0).layers.at(0), "/linear/0");
  EXPECT_EQ(smooth(module, data, {0.5, -1}).result.groups.at(0).layers.at(0), "/conv2d/0");
  EXPECT_EQ(smooth(module, data, {0.5, 0.5}).result.groups.size(), 2u);
  EXPECT_EQ(smooth(module, data, {-1, -1}).result.found, 0);
  const auto weak = smooth(module, data, {0.1, -1}).result.groups.at(0).scale;
  const auto strong = smooth(module, data, {0.9, -1}).result.groups.at(0).scale;
  EXPECT_GT((strong.max() / strong.min()).item<double>(), (weak.max() / weak.min()).item<double>());
}

TEST(SmoothQuant, RefusesAlphasAboveOne) {
  for (const auto& [parameters, name] :
       {std::pair(SmoothQuantParameters{1.5, 0.95}, "convolution"),
        std::pair(SmoothQuantParameters{-1, 1.01}, "matmul"), std::pair(SmoothQuantParameters{-1, NAN}, "matmul")}) {
    try {
      check_smooth_quant(parameters);
      ADD_FAILURE() << "accepted";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
      EXPECT_EQ(error.place(), std::string("smooth_quant_params.") + name);
      EXPECT_NE(error.message().find("alpha"), std::string::npos) << error.what();
    }
  }
  EXPECT_NO_THROW(check_smooth_quant({0, 1}));
}

TEST(SmoothQuant, ConvolutionsOfEveryDimensionAndGrouped) {
  const std::string head = "def forward(self, x):\n    return torch.", tail = "(torch.relu(x), self.w, None";
  const auto one = smooth(define(head + "conv1d" + tail + ", 2, 1)\n", {{"w", at::randn({6, 4, 3})}}),
                          outliers({2, 4, 9}, 1), {0.5, -1});
  EXPECT_EQ(one.result.groups.size(), 1u);
  const auto volume = smooth(define(head + "conv3d" + tail + ")\n", {{"w", at::randn({6, 4, 3, 3, 3})}}),
                             outliers({1, 4, 5, 5, 5}, 1), {0.5, -1});
  EXPECT_EQ(volume.result.groups.size(), 1u);
  const auto grouped = smooth(define(head + "conv2d" + tail + ", 1, 1, 1, 2)\n", {{"w", at::randn({6, 2, 3, 3})}}),
                              outliers({2, 4, 5, 5}, 1), {0.5, -1});
  ASSERT_EQ(grouped.result.groups.size(), 1u);
  EXPECT_EQ(grouped.result.groups[0].scale.numel(), 4);
  // An image without a batch dimension has its channels on axis 0.
  EXPECT_EQ(smooth(define(head + "conv2d" + tail + ")\n", {{"w", at::randn({6, 4, 3, 3})}}), outliers({4, 5, 5}, 0),
                   {0.5, -1})
                .result.groups.size(),
            1u);
  // Depthwise convolutions and those behind operators that quantizers pass are left alone, as in NNCF.
  EXPECT_EQ(smooth(define(head + "conv2d" + tail + ", 1, 1, 1, 4)\n", {{"w", at::randn({4, 1, 3, 3})}}),
                   outliers({2, 4, 5, 5}, 1), {0.5, -1})
                .result.found,
            0);
  EXPECT_EQ(smooth(define("def forward(self, x):\n    return torch.conv2d(torch.max_pool2d(x, 2), self.w)\n",
                          {{"w", at::randn({4, 4, 3, 3})}}),
                   outliers({2, 4, 8, 8}, 1), {0.5, -1})
                .result.found,
            0);
}

TEST(SmoothQuant, ProducersInOtherBlocksAndInputs) {
  const auto module = define(
      "def forward(self, x, flag: bool):\n"
      "    y = torch.linear(x, self.w)\n"
      "    if flag:\n        y = torch.linear(torch.relu(y), self.w2)\n"
      "    else:\n        y = torch.tanh(y)\n"
      "    for i in range(3):\n        y = torch.linear(y, self.w3)\n"
      "    return y\n",
      {{"w", at::randn({8, 8})}, {"w2", at::randn({8, 8})}, {"w3", at::randn({8, 8}) / 4}});
  std::vector<at::Tensor> inputs;
  for (int i = 0; i < 4; ++i) inputs.push_back(at::randn({2, 8}) * at::arange(1, 9));
  const Dataset data(4, [inputs](int64_t i) { return Sample{{inputs[i], i % 2 == 0}, {}}; });
  const auto smoothed = smooth(module, data);
  EXPECT_EQ(smoothed.result.groups.size(), 3u);
  EXPECT_EQ(smoothed.result.groups[0].producer, "x");
  EXPECT_EQ(smoothed.result.groups[0].multiply, "x/smooth_quant/0");
  std::set<std::string> names;
  for (const auto& group : smoothed.result.groups) names.insert(group.multiply);
  EXPECT_EQ(names.size(), 3u);
}

TEST(SmoothQuant, BranchesThatNoSampleTookAreLeftOut) {
  const auto module = define(
      "def forward(self, x, flag: bool):\n"
      "    if flag:\n        x = torch.linear(torch.relu(x), self.w)\n    return x\n",
      {{"w", at::randn({8, 8})}});
  const at::Tensor x = at::randn({2, 8});
  const Dataset data(2, [x](int64_t) { return Sample{{x, false}, {}}; });
  const auto smoothed = smooth(module, data);
  EXPECT_EQ(smoothed.result.found, 1);
  EXPECT_TRUE(smoothed.result.groups.empty());
  ASSERT_EQ(smoothed.result.warnings.size(), 1u);
  EXPECT_EQ(smoothed.result.warnings[0], "SmoothQuant left out /linear/0: no sample reached /relu/0");
}

TEST(SmoothQuant, InputsWrittenInPlaceAreLeftOut) {
  const auto module = define(
      "def forward(self, x):\n    y = torch.relu(x)\n    y[0] = 3.0\n"
      "    a = torch.linear(y, self.w)\n    z = torch.tanh(x)\n"
      "    return a + torch.linear(z, self.v)\n",
      {{"w", at::randn({8, 8})}, {"v", at::randn({8, 8})}});
  const auto smoothed = smooth(module, outliers({3, 8}, 1));
  ASSERT_EQ(smoothed.result.groups.size(), 1u);
  EXPECT_EQ(smoothed.result.groups[0].producer, "/tanh/0");
  ASSERT_EQ(smoothed.result.warnings.size(), 1u);
  EXPECT_EQ(smoothed.result.warnings[0], "SmoothQuant left out /linear/0: its input /relu/0 is written in place");
}

TEST(SmoothQuant, SharedWeightsGetOneScale) {
  const auto module = define(
      "def forward(self, x):\n    a = torch.linear(torch.relu(x), self.w)\n"
      "    return torch.linear(torch.tanh(a), self.w)\n",
      {{"w", at::randn({8, 8})}});
  const auto smoothed = smooth(module, outliers({3, 8}, 1));
  ASSERT_EQ(smoothed.result.groups.size(), 2u);
  EXPECT_TRUE(at::equal(smoothed.result.groups[0].scale, smoothed.result.groups[1].scale));
  EXPECT_EQ(multiplies(smoothed.model), 2u);
  // Still one tensor, under its name.
  EXPECT_TRUE(at::allclose(smoothed.model.module().attr("w").toTensor(),
                           module.attr("w").toTensor() * smoothed.result.groups[0].scale));
}

TEST(SmoothQuant, WeightsThatOthersReadAreLeftAlone) {
  const auto module = define(
      "def forward(self, t):\n    x = torch.embedding(self.w, t)\n"
      "    return torch.linear(torch.relu(x), self.w)\n",
      {{"w", at::randn({10, 8})}});
  const Dataset data(3, [](int64_t i) { return Sample{{at::arange(4) + i}, {}}; });
  const auto smoothed = smooth(module, data);
  EXPECT_TRUE(smoothed.result.groups.empty());
  ASSERT_EQ(smoothed.result.warnings.size(), 1u);
  EXPECT_EQ(smoothed.result.warnings[0], "SmoothQuant left out /linear/0: its weight w is read by /embedding/0 too");
}

TEST(SmoothQuant, HalfPrecisionWeightsKeepTheirType) {
  const auto module = define("def forward(self, x):\n    return torch.linear(torch.relu(x), self.w)\n",
                             {{"w", at::randn({8, 8}).to(at::kBFloat16)}});
  std::vector<at::Tensor> samples{at::randn({3, 8}).to(at::kBFloat16)};
  Model model = Model::from(module);
  const auto data = Dataset::from_tensors(samples);
  EXPECT_EQ(smooth_quant(model, data, {}, {}).groups.size(), 1u);
  EXPECT_EQ(model.module().attr("w").toTensor().scalar_type(), at::kBFloat16);
  EXPECT_EQ(model.run(data.get(0)).toTensor().scalar_type(), at::kBFloat16);
}

/// Linear layer whose input has one wide channel that hardly matters.
torch::jit::Module outlier_net() {
  at::manual_seed(3);
  at::Tensor w = at::randn({16, 16});
  w.select(1, 0).div_(50);
  return define("def forward(self, x):\n    return torch.linear(torch.tanh(x) * self.g, self.w)\n",
                {{"w", w}, {"g", at::cat({at::full({1}, 50.0), at::ones({15})})}});
}

Dataset plain_data() {
  std::vector<at::Tensor> samples;
  for (int i = 0; i < 8; ++i) samples.push_back(at::randn({4, 16}));
  return Dataset::from_tensors(samples);
}

double error_of(const QuantizePt2eOptions& options, Report* report = nullptr) {
  Model model = Model::from(outlier_net());
  const auto data = plain_data();
  OpenVINOQuantizerOptions placement;
  placement.model_type = ModelType::kTransformer;
  OpenVINOQuantizer quantizer(placement);
  const auto result = quantize_pt2e(model, quantizer, data, options);
  if (report) *report = result.report;
  const at::Tensor expected = model.run(data.get(0)).toTensor(), actual = result.model.run(data.get(0)).toTensor();
  return ((expected - actual).norm() / expected.norm()).item<double>();
}

TEST(SmoothQuant, RescuesOutliersInTheFlow) {
  QuantizePt2eOptions options;
  options.form = OutputForm::kReference;
  const double without = error_of(options);
  options.smooth_quant = true;
  Report report;
  const double with = error_of(options, &report);
  EXPECT_LT(with, without / 4) << with << " " << without;
  EXPECT_LT(with, 0.03);
  EXPECT_EQ(report.options.at("smooth_quant"), "true");
  EXPECT_EQ(report.options.at("groups_smoothed"), "1 of 1");
  EXPECT_EQ(report.options.at("smooth_quant_alpha"), "convolution -1, matmul 0.95");
  options.smooth_quant_params.matmul = -1;
  EXPECT_NEAR(error_of(options, &report), without, 1e-6);
  EXPECT_EQ(report.options.at("groups_smoothed"), "0 of 0");
}

TEST(SmoothQuant, EveryFormComputesWithTheMultiply) {
  for (const auto form :
       {OutputForm::kDecomposed, OutputForm::kReference, OutputForm::kFakeQuantize, OutputForm::kLowered}) {
    QuantizePt2eOptions options;
    options.form = form;
    options.smooth_quant = true;
    EXPECT_LT(error_of(options), 0.03) << static_cast<int>(form);
  }
}

TEST(SmoothQuant, FlowRefusesWrongAlphas) {
  QuantizePt2eOptions options;
  options.smooth_quant_params.matmul = 2;
  try {
    error_of(options);
    ADD_FAILURE() << "accepted";
  } catch (const Error& error) {
    EXPECT_EQ(std::string(error.what()),
              "smooth_quant_params.matmul is 2 (at smooth_quant_params.matmul); use 1 or less; the default is 0.95");
  }
}

TEST(SmoothQuant, WarningsReachTheReport) {
  Model model =
      Model::from(define("def forward(self, x):\n    y = torch.relu(x)\n    y[0] = 3.0\n"
                         "    return torch.linear(y, self.w)\n",
                         {{"w", at::randn({8, 8})}}));
  QuantizePt2eOptions options;
  options.smooth_quant = true;
  OpenVINOQuantizer quantizer;
  const auto result = quantize_pt2e(model, quantizer, outliers({3, 8}, 1), options);
  const auto& warnings = result.report.warnings;
  EXPECT_TRUE(std::any_of(warnings.begin(), warnings.end(), [](const std::string& text) {
    return text == "SmoothQuant left out /linear/0: its input /relu/0 is written in place";
  }));
}

}  // namespace
}  // namespace tsquant::testing

#include "algorithms/channel_alignment.h"

#include <gtest/gtest.h>
#include <tsquant/tsquant.h>

#include <algorithm>

#include "graph/params.h"
#include "passes/rewrite_runner.h"
#include "support/rewrite.h"
#include "support/support.h"

namespace tsquant::testing {
namespace {

constexpr int kSamples = 5;

Dataset normal(const std::vector<int64_t>& shape, int count = kSamples) {
  std::vector<at::Tensor> samples;
  for (int i = 0; i < count; ++i) samples.push_back(at::randn(shape));
  return Dataset::from_tensors(samples);
}

struct Aligned {
  Model model;
  ChannelAlignmentResult result;
};

/// Aligns a copy and checks that it computes the same.
Aligned align(const torch::jit::Module& module, const Dataset& data) {
  Model original = Model::from(module);
  run_passes(original);
  Aligned aligned{original.clone(), {}};
  aligned.result = align_channels(aligned.model, data, {});
  for (int64_t i = 0; i < data.length(); ++i) {
    expect_same(original.run(data.get(i)), aligned.model.run(data.get(i)));
  }
  return aligned;
}

/// Output channels that differ in width and middle.
at::Tensor uneven(const std::vector<int64_t>& shape) {
  at::Tensor weight = at::randn(shape);
  std::vector<int64_t> column(shape.size(), 1);
  column[0] = shape[0];
  return weight * at::pow(2.0, at::arange(shape[0])).view(column);
}

torch::jit::Module two_convolutions(const std::string& first = "", const std::string& second = "",
                                    const std::string& between = "y", int64_t kernel = 3) {
  return define("def forward(self, x):\n    y = torch.conv2d(x, self.w1, self.b1" + first +
                    ")\n    return torch.conv2d(" + between + ", self.w2, self.b2" + second + ")\n",
                {{"w1", uneven({6, 4, 3, 3})},
                 {"b1", at::arange(6).to(at::kFloat) * 10},
                 {"w2", at::randn({5, 6, kernel, kernel})},
                 {"b2", at::randn({5})}});
}

TEST(AlignmentFactor, MedianOfThePositiveWidths) {
  const auto factor = alignment_factor(torch::tensor({1.f, 2.f, 4.f, 0.f, -1.f, 1000.f, 1e-3f}));
  // Median of 1, 2, 4, 1000, 0.001 is 2.
  EXPECT_TRUE(at::allclose(factor, torch::tensor({0.5f, 1.f, 2.f, 1.f, 1.f, 100.f, 0.01f})));
  EXPECT_TRUE(at::equal(alignment_factor(torch::tensor({0.f, -3.f})), at::ones({2})));
  // An even number of widths: the mean of the middle two, as numpy's median.
  EXPECT_TRUE(at::allclose(alignment_factor(torch::tensor({1.f, 3.f})), torch::tensor({0.5f, 1.5f})));
}

TEST(ChannelAlignment, FollowsTheFormula) {
  at::manual_seed(1);
  const auto module = two_convolutions();
  const auto data = normal({2, 4, 8, 8});
  const auto aligned = align(module, data);
  ASSERT_EQ(aligned.result.pairs.size(), 1u);
  const auto& pair = aligned.result.pairs[0];
  EXPECT_EQ(pair.producer, "/conv2d/0");
  EXPECT_EQ(pair.consumer, "/conv2d/1");
  // The statistics, computed plainly: quantiles of each image's channel, median over images.
  std::vector<at::Tensor> outputs;
  for (int64_t i = 0; i < data.length(); ++i) {
    const auto x = data.get(i).args[0].toTensor();
    outputs.push_back(at::conv2d(x, module.attr("w1").toTensor(), module.attr("b1").toTensor()).flatten(2));
  }
  const at::Tensor all = at::cat(outputs);
  const auto bound = [&](double q) { return at::quantile(at::quantile(all, q, -1), 0.5, 0); };
  const at::Tensor low = bound(1e-4), high = bound(1 - 1e-4);
  EXPECT_TRUE(at::allclose(pair.shift, (low + high) / 2, 1e-4, 1e-4));
  EXPECT_TRUE(at::allclose(pair.factor, alignment_factor(high - low), 1e-4));
  const auto attribute = [](const Model& model, const char* name) { return model.module().attr(name).toTensor(); };
  const auto before = [&](const char* name) { return module.attr(name).toTensor(); };
  const auto rows = pair.factor.view({6, 1, 1, 1});
  EXPECT_TRUE(at::allclose(attribute(aligned.model, "w1"), before("w1") / rows));
  EXPECT_TRUE(at::allclose(attribute(aligned.model, "b1"), (before("b1") - pair.shift) / pair.factor));
  EXPECT_TRUE(at::allclose(attribute(aligned.model, "w2"), before("w2") * pair.factor.view({1, 6, 1, 1})));
  EXPECT_TRUE(at::allclose(attribute(aligned.model, "b2"), before("b2") + before("w2").sum({2, 3}).matmul(pair.shift),
                           1e-4, 1e-3));
}

TEST(ChannelAlignment, ConsumerMustBeExact) {
  const auto data = normal({1, 4, 9, 9});
  EXPECT_EQ(align(two_convolutions(", [1, 1], [1, 1]"), data).result.found, 1) << "a padded producer is fine";
  EXPECT_EQ(align(two_convolutions(", [2, 2]"), data).result.found, 1) << "a producer with stride is fine";
  EXPECT_EQ(align(two_convolutions("", ", [2, 2]"), data).result.found, 0) << "stride";
  EXPECT_EQ(align(two_convolutions("", ", [1, 1], [1, 1]"), data).result.found, 0) << "padding";
  EXPECT_EQ(align(two_convolutions("", ", [1, 1], \"same\""), data).result.found, 0) << "padding by name";
  EXPECT_EQ(align(two_convolutions("", ", [1, 1], [0, 0], [2, 2]"), data).result.found, 0) << "dilation";
  EXPECT_EQ(align(two_convolutions("", "", "torch.relu(y)"), data).result.found, 0) << "something in between";
  EXPECT_EQ(align(two_convolutions("", ") + y.mean("), data).result.found, 0) << "another reader";
  const auto grouped =
      define("def forward(self, x):\n    return torch.conv2d(torch.conv2d(x, self.a), self.b, None, 1, 0, 1, 2)\n",
             {{"a", uneven({6, 4, 3, 3})}, {"b", at::randn({4, 3, 1, 1})}});
  EXPECT_EQ(align(grouped, data).result.found, 0) << "groups";
}

TEST(ChannelAlignment, MissingBiasesAreAdded) {
  const auto module = define("def forward(self, x):\n    return torch.conv2d(torch.conv2d(x, self.a), self.b)\n",
                             {{"a", uneven({6, 4, 3, 3})}, {"b", at::randn({5, 6, 1, 1})}});
  std::vector<at::Tensor> samples;
  for (int i = 0; i < kSamples; ++i) samples.push_back(at::rand({1, 4, 8, 8}) + 1);
  const auto aligned = align(module, Dataset::from_tensors(samples));
  ASSERT_EQ(aligned.result.pairs.size(), 1u);
  const GraphView view(aligned.model);
  for (const char* name : {"/conv2d/0", "/conv2d/1"}) {
    EXPECT_TRUE(param_of(aligned.model, view.find(name)->node->input(2))) << name;
  }
}

TEST(ChannelAlignment, DepthwiseProducersAndAddedConstants) {
  const auto depthwise = define(
      "def forward(self, x):\n    y = torch.conv2d(x, self.a, None, 1, 1, 1, 4)\n    return torch.conv2d(y, self.b)\n",
      {{"a", uneven({4, 1, 3, 3})}, {"b", at::randn({5, 4, 1, 1})}});
  EXPECT_EQ(align(depthwise, normal({2, 4, 8, 8})).result.pairs.size(), 1u);
  const auto linear = define("def forward(self, x):\n    return torch.linear(torch.linear(x, self.a), self.b)\n",
                             {{"a", uneven({6, 4})}, {"b", at::randn({5, 6})}});
  EXPECT_EQ(align(linear, normal({2, 7, 4})).result.found, 0) << "NNCF's consumers are convolutions";
  // A linear layer's channels are on the last axis, where the convolution has positions.
  const auto mixed = define("def forward(self, x):\n    return torch.conv1d(torch.linear(x, self.a), self.b)\n",
                            {{"a", uneven({6, 4})}, {"b", at::randn({5, 6, 1})}});
  EXPECT_EQ(align(mixed, normal({2, 6, 4})).result.found, 0);
  const auto added =
      define("def forward(self, x):\n    y = torch.conv2d(x, self.a) + self.c\n    return torch.conv2d(y, self.b)\n",
             {{"a", uneven({6, 4, 3, 3})},
              {"c", at::arange(6).to(at::kFloat).view({6, 1, 1})},
              {"b", at::randn({5, 6, 1, 1})}});
  const auto aligned = align(added, normal({2, 4, 8, 8}));
  EXPECT_EQ(aligned.result.pairs.size(), 1u);
  EXPECT_FALSE(at::allclose(aligned.model.module().attr("c").toTensor(), added.attr("c").toTensor()));
}

TEST(ChannelAlignment, ChainsAndSharedWeights) {
  const auto chain = define(
      "def forward(self, x):\n    y = torch.conv2d(torch.conv2d(x, self.a), self.b)\n    return torch.conv2d(y, "
      "self.c)\n",
      {{"a", uneven({6, 4, 3, 3})}, {"b", uneven({5, 6, 1, 1})}, {"c", at::randn({3, 5, 1, 1})}});
  EXPECT_EQ(align(chain, normal({2, 4, 8, 8})).result.pairs.size(), 2u);
  const auto shared = define("def forward(self, x):\n    return torch.conv2d(torch.conv2d(x, self.a), self.a)\n",
                             {{"a", uneven({4, 4, 1, 1})}});
  EXPECT_EQ(align(shared, normal({2, 4, 8, 8})).result.found, 0);
}

TEST(ChannelAlignment, PairsThatNoSampleReachedAreLeftOut) {
  const auto module = define(
      "def forward(self, x, flag: bool):\n    if flag:\n"
      "        x = torch.conv2d(torch.conv2d(x, self.a), self.b)\n    return x\n",
      {{"a", uneven({6, 4, 3, 3})}, {"b", at::randn({5, 6, 1, 1})}});
  const at::Tensor x = at::randn({1, 4, 8, 8});
  const auto aligned = align(module, Dataset(2, [x](int64_t) { return Sample{{x, false}, {}}; }));
  EXPECT_TRUE(aligned.result.pairs.empty());
  ASSERT_EQ(aligned.result.warnings.size(), 1u);
  EXPECT_EQ(aligned.result.warnings[0], "ChannelAlignment left out /conv2d/0 and /conv2d/1: no sample reached them");
}

/// Relative error of a quantized pair of convolutions with one scale per weight and per activation.
double error_of(bool channel_alignment, Report& report) {
  at::manual_seed(5);
  Model model = Model::from(two_convolutions());
  const auto data = normal({1, 4, 12, 12}, 20);
  OpenVINOQuantizerOptions placement;
  placement.overflow_fix = OverflowFix::kDisable;
  placement.weights_quantization_params.per_channel = false;
  OpenVINOQuantizer quantizer(placement);
  QuantizePt2eOptions options;
  options.form = OutputForm::kReference;
  options.channel_alignment = channel_alignment;
  const auto result = quantize_pt2e(model, quantizer, data, options);
  report = result.report;
  double error = 0, size = 0;
  for (int64_t i = 0; i < data.length(); ++i) {
    const at::Tensor expected = model.run(data.get(i)).toTensor();
    error += (expected - result.model.run(data.get(i)).toTensor()).square().sum().item<double>();
    size += expected.square().sum().item<double>();
  }
  return std::sqrt(error / size);
}

TEST(ChannelAlignment, AModelWithoutPairsGetsAWarning) {
  const auto warned = [](const torch::jit::Module& module, const std::vector<int64_t>& shape) {
    Model model = Model::from(module);
    OpenVINOQuantizer quantizer;
    QuantizePt2eOptions options;
    options.channel_alignment = true;
    const auto warnings = quantize_pt2e(model, quantizer, normal(shape), options).report.warnings;
    return std::count(warnings.begin(), warnings.end(),
                      "ChannelAlignment has no effect: the model has no pair of layers whose channels it aligns");
  };
  const auto linear = define("def forward(self, x):\n    return torch.linear(torch.linear(x, self.a), self.b)\n",
                             {{"a", uneven({6, 4})}, {"b", at::randn({5, 6})}});
  EXPECT_EQ(warned(linear, {2, 7, 4}), 1);
  EXPECT_EQ(warned(two_convolutions(), {1, 4, 12, 12}), 0);
}

TEST(ChannelAlignment, HelpsPerTensorQuantizersInTheFlow) {
  Report report;
  const double without = error_of(false, report);
  EXPECT_EQ(report.options.at("channel_alignment"), "false");
  EXPECT_EQ(report.options.count("pairs_aligned"), 0u);
  const double with = error_of(true, report);
  EXPECT_EQ(report.options.at("channel_alignment"), "true");
  EXPECT_EQ(report.options.at("pairs_aligned"), "1 of 1");
  EXPECT_LT(with, without * 0.8) << with << " " << without;
}

}  // namespace
}  // namespace tsquant::testing

#include "algorithms/kernel_mean.h"

#include <gtest/gtest.h>
#include <torch/torch.h>
#include <tsquant/tsquant.h>

#include "algorithms/bias_layers.h"
#include "algorithms/channel_mean.h"
#include "passes/rewrite_runner.h"
#include "support/support.h"

namespace tsquant::testing {
namespace {

struct Case {
  std::string call;  ///< TorchScript expression over x and self.w
  std::vector<int64_t> weight, input;
};

const std::vector<Case>& cases() {
  static const std::vector<Case> kCases{
      {"torch.conv2d(x, self.w, None, [1, 1], [1, 1])", {4, 3, 3, 3}, {3, 3, 7, 6}},
      {"torch.conv2d(x, self.w, None, [2, 2], [3, 3])", {4, 3, 7, 7}, {2, 3, 16, 15}},
      {"torch.conv2d(x, self.w, None, [2, 1], [0, 2], [1, 3], 2)", {4, 3, 2, 3}, {2, 6, 9, 8}},
      {"torch.conv2d(x, self.w, None, [3, 3], [1, 1], [2, 2], 6)", {6, 1, 3, 3}, {1, 6, 11, 10}},
      {"torch.conv2d(x, self.w, None, [1, 1], 'same', [2, 1])", {4, 3, 4, 3}, {2, 3, 6, 7}},
      {"torch.conv2d(x, self.w, None, [2, 2], 'valid')", {4, 3, 3, 2}, {2, 3, 6, 7}},
      {"torch.conv2d(x, self.w)", {4, 3, 1, 1}, {2, 3, 5, 5}},
      {"torch.conv2d(x, self.w, None, [2, 2])", {4, 3, 1, 1}, {2, 3, 5, 6}},
      {"torch.conv2d(x, self.w, None, [1, 1], [2, 2])", {4, 3, 3, 3}, {3, 5, 6}},
      {"torch.conv2d(x, self.w, None, [1, 1], [4, 4])", {2, 3, 9, 9}, {1, 3, 2, 2}},
      {"torch.conv1d(x, self.w, None, [2], [2])", {5, 3, 4}, {2, 3, 11}},
      {"torch.conv3d(x, self.w, None, [1, 2, 1], [1, 0, 1])", {2, 3, 3, 2, 3}, {2, 3, 4, 5, 4}},
      {"torch.conv_transpose2d(x, self.w, None, [2, 2], [1, 1], [1, 0])", {3, 4, 3, 4}, {2, 3, 5, 4}},
      {"torch.conv_transpose2d(x, self.w, None, [3, 1], [2, 0], [0, 0], 2, [1, 2])", {4, 3, 3, 2}, {2, 4, 5, 4}},
      {"torch.conv_transpose1d(x, self.w, None, [2], [3])", {3, 4, 5}, {2, 3, 6}},
      {"torch.conv_transpose2d(x, self.w)", {3, 4, 1, 1}, {2, 3, 5, 4}},
      {"torch.linear(x, self.w)", {5, 6}, {3, 6}},
      {"torch.linear(x, self.w)", {5, 6}, {2, 7, 6}},
  };
  return kCases;
}

struct Layer {
  Model model;
  std::unique_ptr<GraphView> view;
  const ViewNode* node = nullptr;
};

Layer layer_of(const std::string& call, const at::Tensor& weight) {
  const std::string source = "def forward(self, x):\n    return " + call + "\n";
  Layer layer{Model::from(define(source, {{"w", weight}})), nullptr};
  run_passes(layer.model);
  layer.view = std::make_unique<GraphView>(layer.model);
  for (const auto& node : layer.view->nodes()) {
    if (node.type.rfind("conv", 0) == 0 || node.type == "linear") layer.node = &node;
  }
  return layer;
}

TEST(KernelMean, ResponseIsTheMeanOutput) {
  at::manual_seed(0);
  for (const auto& c : cases()) {
    const auto weight = at::randn(c.weight);
    const auto layer = layer_of(c.call, weight);
    ASSERT_NE(layer.node, nullptr) << c.call;
    const auto geometry = kernel_geometry(layer.model, layer.node->node, weight);
    ASSERT_TRUE(geometry.has_value()) << c.call;
    KernelMean mean(*geometry);
    std::vector<at::Tensor> outputs;
    for (int i = 0; i < 3; ++i) {
      const auto x = at::randn(c.input) + i;
      mean.observe(x);
      outputs.push_back(layer.model.run({{x}, {}}).toTensor());
    }
    const int64_t axis =
        layer.node->type == "linear" ? -1 : outputs[0].dim() - static_cast<int64_t>(c.weight.size()) + 1;
    const auto expected = mean_per_channel(at::stack(outputs), axis < 0 ? axis : axis + 1);
    EXPECT_TRUE(at::allclose(mean.response(weight), expected, 1e-4, 1e-5)) << c.call << "\n"
                                                                           << mean.response(weight) << expected;
    EXPECT_FALSE(at::allclose(mean.response(weight.neg()), expected, 1e-4, 1e-5)) << c.call;
  }
}

TEST(KernelMean, SameBitsForEveryBatchSizeAndThreadCount) {
  at::manual_seed(1);
  const int threads = at::get_num_threads();
  for (const auto& c : cases()) {
    if (c.input.size() < c.weight.size()) continue;  // one image without a batch dimension
    const auto weight = at::randn(c.weight);
    const auto layer = layer_of(c.call, weight);
    const auto geometry = kernel_geometry(layer.model, layer.node->node, weight);
    auto shape = c.input;
    shape[0] = 6;
    const auto x = at::randn(shape);
    KernelMean whole(*geometry), single(*geometry);
    at::set_num_threads(2);
    whole.observe(x);
    at::set_num_threads(1);
    for (int64_t i = 0; i < 6; ++i) single.observe(x.narrow(0, i, 1));
    EXPECT_TRUE(at::equal(whole.response(weight), single.response(weight))) << c.call;
  }
  at::set_num_threads(threads);
}

TEST(KernelMean, MergesSavesAndReplays) {
  KernelGeometry geometry;
  geometry.kernel = {3, 3};
  geometry.stride = geometry.dilation = geometry.padding = {1, 1};
  geometry.output_padding = {0, 0};
  const auto a = at::randn({2, 3, 5, 5}), b = at::randn({1, 3, 9, 4}), weight = at::randn({2, 3, 3, 3});
  KernelMean all(geometry), first(geometry), second(geometry), restored(geometry), replayed(geometry);
  EXPECT_THROW(all.range(), Error);
  all.observe(a);
  all.observe(at::empty({0, 3, 5, 5}));
  all.observe(b);
  first.observe(a);
  second.observe(b);
  first.merge(second);
  EXPECT_TRUE(at::allclose(all.response(weight), first.response(weight)));
  const auto outputs = [&](const at::Tensor& x) { return at::conv2d(x, weight, {}, 1, 1).mean({0, 2, 3}); };
  EXPECT_TRUE(at::allclose(all.response(weight).to(at::kFloat), (outputs(a) * 2 + outputs(b)) / 3, 1e-4, 1e-5));
  restored.set_state(all.state());
  EXPECT_TRUE(at::equal(all.response(weight), restored.response(weight)));
  for (const auto& x : {a, b}) replayed.replay(all.summary(x));
  EXPECT_TRUE(at::equal(all.response(weight), replayed.response(weight)));
  EXPECT_EQ(all.batches(), 2);
  EXPECT_EQ(restored.batches(), 2);
  EXPECT_THROW(all.set_state({a}), Error);
  EXPECT_THROW(all.observe(at::randn({1, 4, 5, 5})), Error);
  EXPECT_THROW(all.response(at::randn({2, 4, 3, 3})), Error);
}

TEST(KernelMean, WeightErrorsInSlicesAreThoseOfTheWhole) {
  KernelMean inputs((KernelGeometry()));
  inputs.observe(at::randn({4, 20}));
  const auto weight = at::randn({150, 20});
  for (const bool per_channel : {true, false}) {
    QuantizationSpec spec;
    spec.format = Format::kInt4;
    spec.per_channel = per_channel;
    const auto largest = per_channel ? weight.abs().amax({1}) : weight.abs().max().view({1});
    const auto q = choose_qparams({-largest, largest}, spec, PointKind::kWeight);
    const auto expected = inputs.response(weight) - inputs.response(dequantize(quantize(weight, q), q));
    EXPECT_GT(expected.abs().min().item<double>(), 0);
    EXPECT_TRUE(at::equal(mean_weight_error(inputs, weight, q), expected));
  }
}

TEST(KernelGeometry, IsUnknownForOtherNodesAndComputedArguments) {
  const auto weight = at::randn({4, 3, 3, 3});
  const auto computed = layer_of("torch.conv2d(x, self.w, None, [1, x.size(0)], [1, 1])", weight);
  ASSERT_NE(computed.node, nullptr);
  EXPECT_FALSE(kernel_geometry(computed.model, computed.node->node, weight).has_value());
  const auto other = Model::from(define("def forward(self, x):\n    return torch.relu(x)\n"));
  const GraphView view(other);
  EXPECT_FALSE(kernel_geometry(other, view.find("relu")->node, weight).has_value());
}

TEST(ChannelMean, SameBitsForEveryThreadCount) {
  const int threads = at::get_num_threads();
  const auto x = at::randn({2, 1, 400, 400});  // one channel: LibTorch splits such a sum among its threads
  at::set_num_threads(1);
  const auto one = mean_per_channel(x, 1);
  at::set_num_threads(2);
  EXPECT_TRUE(at::equal(one, mean_per_channel(x, 1)));
  at::set_num_threads(threads);
  EXPECT_TRUE(at::allclose(one, x.to(at::kDouble).mean({0, 2, 3}), 1e-9, 1e-12));
}

}  // namespace
}  // namespace tsquant::testing

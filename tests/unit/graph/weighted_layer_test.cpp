#include "graph/weighted_layer.h"

#include <gtest/gtest.h>

#include "graph/node_lists.h"
#include "graph/params.h"
#include "support/support.h"
#include "tsquant/sample.h"

namespace tsquant {
namespace {

using testing::define;
using torch::jit::Node;
using List = std::vector<int64_t>;

constexpr auto kConvolution = LayerKind::kConvolution, kTransposed = LayerKind::kTransposedConvolution;

struct Case {
  std::string call;  ///< TorchScript expression over x and self.w
  List weight, input;
  LayerKind kind = kConvolution;
  int64_t groups = 1, outputs = 0;
  bool depthwise = false;
};

const std::vector<Case>& cases() {
  static const std::vector<Case> kCases{
      {"torch.linear(x, self.w)", {5, 6}, {2, 7, 6}, LayerKind::kLinear, 1, 5},
      {"torch.conv1d(x, self.w, None, [2], [2])", {5, 3, 4}, {2, 3, 11}, kConvolution, 1, 5},
      {"torch.conv2d(x, self.w, None, [2, 1], [0, 2], [1, 3])", {4, 3, 2, 3}, {2, 3, 9, 8}, kConvolution, 1, 4},
      {"torch.conv2d(x, self.w)", {4, 3, 2, 3}, {3, 9, 8}, kConvolution, 1, 4},
      {"torch.conv3d(x, self.w, None, [1, 2, 1], [1, 0, 1])", {2, 3, 3, 2, 3}, {1, 3, 4, 5, 4}, kConvolution, 1, 2},
      {"torch.conv2d(x, self.w, None, [2], [1], [1], 2)", {4, 3, 3, 3}, {2, 6, 9, 8}, kConvolution, 2, 4},
      {"torch.conv2d(x, self.w, None, [3, 3], [1, 1], [2, 2], 6)",
       {6, 1, 3, 3},
       {1, 6, 9, 9},
       kConvolution,
       6,
       6,
       true},
      {"torch.conv1d(x, self.w, None, [1], [0], [1], 3)", {6, 1, 3}, {1, 3, 9}, kConvolution, 3, 6, true},
      {"torch.conv2d(x, self.w, None, [1, 1], 'same', [2, 1])", {4, 3, 4, 3}, {2, 3, 6, 7}, kConvolution, 1, 4},
      {"torch.conv2d(x, self.w, None, [2, 2], 'valid')", {4, 3, 3, 2}, {2, 3, 6, 7}, kConvolution, 1, 4},
      {"torch.conv_transpose1d(x, self.w, None, [2], [3])", {3, 4, 5}, {2, 3, 6}, kTransposed, 1, 4},
      {"torch.conv_transpose2d(x, self.w, None, [3, 1], [2, 0], [1, 0], 2, [1, 2])",
       {4, 3, 3, 2},
       {2, 4, 5, 4},
       kTransposed,
       2,
       6},
      {"torch.conv_transpose2d(x, self.w, None, [1], [0], [0], 3)",
       {3, 2, 2, 2},
       {1, 3, 4, 4},
       kTransposed,
       3,
       6,
       true},
      {"torch.conv_transpose3d(x, self.w, None, [2, 1, 1])", {2, 3, 2, 1, 2}, {1, 2, 3, 3, 3}, kTransposed, 1, 3},
      {"torch._convolution(x, self.w, None, [2, 1], [1, 0], [1, 2], False, [0, 0], 2, False, False, False, False)",
       {4, 3, 3, 2},
       {2, 6, 7, 8},
       kConvolution,
       2,
       4},
      {"torch._convolution(x, self.w, None, [2, 3], [1, 0], [2, 1], True, [1, 2], 2, False, False, False, False)",
       {4, 3, 3, 2},
       {2, 4, 5, 4},
       kTransposed,
       2,
       6},
      {"torch.convolution(x, self.w, None, [2], [3], [1], True, [1], 1)", {3, 4, 5}, {2, 3, 6}, kTransposed, 1, 4},
      {"torch._convolution_mode(x, self.w, None, [1, 1], 'same', [1, 1], 3)",
       {6, 1, 3, 5},
       {1, 3, 6, 7},
       kConvolution,
       3,
       6,
       true}};
  return kCases;
}

Model model_of(const std::string& call, const at::Tensor& weight) {
  return Model::from(define("def forward(self, x):\n    return " + call + "\n", {{"w", weight}}));
}

Node* only_layer(const Model& model) {
  const auto nodes = weighted_nodes(model.graph()->block());
  return nodes.size() == 1 ? nodes[0] : nullptr;
}

/// What the model's operator gives with another weight.
at::Tensor run_with(Model& model, Node* node, const at::Tensor& weight, const at::Tensor& x) {
  set_param(model, node, WeightedLayer::kWeight, weight);
  return model.run({{x}, {}}).toTensor();
}

TEST(WeightedLayer, SaysWhatAnOperatorIs) {
  for (const auto& c : cases()) {
    SCOPED_TRACE(c.call);
    const Model model = model_of(c.call, at::zeros(c.weight));
    const Node* node = only_layer(model);
    ASSERT_NE(node, nullptr);
    EXPECT_EQ(layer_kind(node), c.kind);
    const auto layer = weighted_layer(model, node);
    ASSERT_TRUE(layer);
    EXPECT_EQ(layer->kind, c.kind);
    EXPECT_EQ(layer->spatial, c.weight.size() - 2);
    EXPECT_EQ(layer->channel_axis(), 1 - static_cast<int64_t>(c.weight.size()));
    EXPECT_EQ(layer->groups, c.groups);
    const auto layout = layer->layout();
    ASSERT_TRUE(layout);
    EXPECT_EQ(layout->output_channels(c.weight), c.outputs);
    EXPECT_EQ(layout->input_channels(c.weight),
              c.input.at(c.input.size() - static_cast<size_t>(-layer->channel_axis())));
    EXPECT_EQ(layout->depthwise(c.weight), c.depthwise);
    EXPECT_EQ(layout->output_axis(), c.kind == kTransposed ? 1 : 0);
    EXPECT_EQ(layout->output_axis() + layout->input_axis(), 1);
    EXPECT_TRUE(param_of(model, node->input(WeightedLayer::kWeight)));
    EXPECT_EQ(node->input(WeightedLayer::kInput)->node()->kind(), c10::prim::Param);
    EXPECT_EQ(node->input(WeightedLayer::kBias)->type()->kind(), c10::TypeKind::NoneType);
  }
}

TEST(WeightedLayer, RowsAreWhatOutputChannelsRead) {
  at::manual_seed(0);
  for (const auto& c : cases()) {
    SCOPED_TRACE(c.call);
    const auto weight = at::randn(c.weight), x = at::randn(c.input);
    Model model = model_of(c.call, weight);
    Node* node = only_layer(model);
    const auto layer = weighted_layer(model, node);
    const auto layout = layer->layout();
    const auto rows = layout->rows(weight);
    EXPECT_EQ(rows.sizes(), (List{c.outputs, weight.numel() / c.outputs}));
    EXPECT_TRUE(at::equal(layout->from_rows(rows, c.weight), weight));
    const auto plain = run_with(model, node, weight, x);
    const auto factors = at::arange(1, c.outputs + 1, at::kFloat);
    const auto scaled = run_with(model, node, layout->from_rows(rows * factors.unsqueeze(1), c.weight), x);
    const auto expected = plain.transpose(layer->channel_axis(), -1) * factors;
    EXPECT_TRUE(at::allclose(scaled.transpose(layer->channel_axis(), -1), expected, 1e-4, 1e-4));
  }
}

TEST(WeightedLayer, GeometryGivesTheSizesOfTheResult) {
  for (const auto& c : cases()) {
    SCOPED_TRACE(c.call);
    const auto weight = at::zeros(c.weight);
    const Model model = model_of(c.call, weight);
    const auto geometry = kernel_geometry(model, only_layer(model), weight);
    ASSERT_TRUE(geometry);
    EXPECT_EQ(geometry->kernel, List(c.weight.begin() + 2, c.weight.end()));
    const auto result = model.run({{at::zeros(c.input)}, {}}).toTensor();
    const size_t first = c.input.size() - geometry->spatial();
    for (size_t axis = 0; axis < geometry->spatial(); ++axis) {
      EXPECT_EQ(geometry->output_size(axis, c.input[first + axis]), result.size(static_cast<int64_t>(first + axis)));
    }
    EXPECT_FALSE(kernel_geometry(model, only_layer(model), at::zeros({2, 2, 2, 2, 2, 2})));
  }
}

TEST(WeightedLayer, ArgumentsAreReadInTheOrderOfEachOperator) {
  const auto weight = at::zeros({4, 3, 3, 2});
  const auto read = [&](const std::string& call) {
    const Model model = model_of(call, weight);
    return *weighted_layer(model, only_layer(model));
  };
  for (const char* call :
       {"torch.conv_transpose2d(x, self.w, None, [3, 4], [2, 1], [1, 0], 2, [5, 6])",
        "torch._convolution(x, self.w, None, [3, 4], [2, 1], [5, 6], True, [1, 0], 2, False, False, False, False)"}) {
    const auto layer = read(call);
    EXPECT_EQ(layer.stride, (List{3, 4})) << call;
    EXPECT_EQ(layer.padding, (List{2, 1})) << call;
    EXPECT_EQ(layer.output_padding, (List{1, 0})) << call;
    EXPECT_EQ(layer.dilation, (List{5, 6})) << call;
  }
  const auto one_number = read("torch.conv2d(x, self.w, None, [3], [2], [5])");
  EXPECT_EQ(one_number.stride, (List{3, 3}));
  EXPECT_EQ(one_number.padding, (List{2, 2}));
  EXPECT_EQ(one_number.output_padding, (List{0, 0}));
  EXPECT_EQ(one_number.dilation, (List{5, 5}));
}

TEST(WeightedLayer, PaddingInWords) {
  const auto weight = at::zeros({4, 3, 5, 4});
  const auto valid = model_of("torch.conv2d(x, self.w, None, [1, 1], 'valid')", weight);
  const auto same = model_of("torch.conv2d(x, self.w, None, [1, 1], 'same', [2, 1])", weight);
  const auto plain = weighted_layer(valid, only_layer(valid)), padded = weighted_layer(same, only_layer(same));
  EXPECT_FALSE(plain->same);
  EXPECT_EQ(plain->padding, (List{0, 0}));
  EXPECT_TRUE(padded->same);
  const auto geometry = padded->geometry(weight.sizes());
  ASSERT_TRUE(geometry);
  EXPECT_TRUE(geometry->same);
  EXPECT_EQ(geometry->padding, (List{4, 1}));
  EXPECT_FALSE(plain->geometry(weight.sizes())->same);
}

TEST(WeightedLayer, ComputedArgumentsAreNotKnown) {
  const auto weight = at::zeros({4, 2, 3, 3});
  const auto model = model_of("torch.conv2d(x, self.w, None, [1, x.size(0)], [1, 1], [1, 1], x.size(1))", weight);
  const auto layer = weighted_layer(model, only_layer(model));
  ASSERT_TRUE(layer);
  EXPECT_FALSE(layer->stride);
  EXPECT_FALSE(layer->groups);
  EXPECT_FALSE(layer->layout());
  EXPECT_FALSE(layer->geometry(weight.sizes()));
  EXPECT_EQ(layer->padding, (List{1, 1}));
  EXPECT_EQ(layer->dilation, (List{1, 1}));
  const auto stride_only = model_of("torch.conv2d(x, self.w, None, [1, x.size(0)])", weight);
  const auto known_groups = weighted_layer(stride_only, only_layer(stride_only));
  EXPECT_TRUE(known_groups->layout());
  EXPECT_FALSE(known_groups->geometry(weight.sizes()));
}

TEST(WeightedLayer, OtherOperatorsAreNone) {
  const auto flag =
      model_of("torch._convolution(x, self.w, None, [1], [0], [1], x.size(0) > 1, [0], 1, False, False, False, False)",
               at::zeros({2, 2, 3}));
  EXPECT_EQ(only_layer(flag), nullptr) << "whether it is transposed is computed";
  const auto others =
      model_of("torch.conv_tbc(torch.matmul(torch.relu(x), self.w), self.w, x, 1)", at::zeros({2, 2, 2}));
  for (const Node* node : all_nodes(others.graph()->block())) {
    EXPECT_EQ(layer_kind(node), LayerKind::kNone) << node->kind().toQualString();
    EXPECT_FALSE(weighted_layer(others, node));
  }
}

TEST(WeightedLayer, BiasesAreSetWhereThereAreNone) {
  const at::Tensor own = at::ones({2}), shared = at::zeros({2}), x = at::zeros({1, 2});
  const std::string source =
      "def forward(self, x):\n"
      "    y = torch.linear(x, self.w, self.own) + torch.linear(x, self.w)\n"
      "    return y + torch.linear(x, self.w, self.shared) + self.shared\n";
  Model model = Model::from(define(source, {{"w", at::eye(2)}, {"own", own}, {"shared", shared}}));
  const auto nodes = weighted_nodes(model.graph()->block());
  ASSERT_EQ(nodes.size(), 3U);
  for (Node* node : nodes) set_bias(model, node, at::full({2}, 4.f));
  EXPECT_EQ(param_of(model, nodes[0]->input(WeightedLayer::kBias))->name, "own");
  for (Node* node : nodes) {
    EXPECT_TRUE(param_of(model, node->input(WeightedLayer::kBias))->tensor.eq(4).all().item<bool>());
  }
  EXPECT_TRUE(model.run({{x}, {}}).toTensor().eq(12).all().item<bool>()) << "another reader keeps its tensor";
}

}  // namespace
}  // namespace tsquant

#include <gtest/gtest.h>

#include <filesystem>

#include "graph/node_lists.h"
#include "lowered.h"
#include "support/support.h"
#include "tsquant/engine.h"
#include "tsquant/error.h"

namespace tsquant::testing {
namespace {

class AnyEngine : public ::testing::TestWithParam<std::string> {
 protected:
  void SetUp() override { torch::manual_seed(17); }
  Lowered lower_here(const std::string& source, const std::vector<std::pair<std::string, at::Tensor>>& params,
                     const at::Tensor& probe) {
    return lower(source, params, GetParam(), probe);
  }
  /// LibTorch's packed weights run only under their engine.
  void compare(const Lowered& l, const at::Tensor& x, double scale, double quanta = 1) {
    const EngineGuard guard(GetParam());
    expect_close(l.actual(x), l.expected(x), scale, quanta);
  }
  bool own() const { return GetParam() == "tsquant"; }
};
INSTANTIATE_TEST_SUITE_P(Engines, AnyEngine, ::testing::ValuesIn(available_engines()),
                         [](const auto& info) { return info.param; });

const char* kConvRelu = R"(
def forward(self, x):
    q = torch.quantize_per_tensor(x, 0.03, 3, 12)
    w = torch.dequantize(self.w)
    y = torch.relu(torch.conv2d(torch.dequantize(q), w, self.b, [1, 1], [1, 1], [1, 1], 1))
    return torch.dequantize(torch.quantize_per_tensor(y, 0.07, 0, 13))
)";

TEST_P(AnyEngine, ConvolutionWithReluAndSignedInput) {
  const auto x = at::randn({2, 8, 9, 9});
  const auto l = lower_here(kConvRelu, {{"w", quantized_weight({24, 8, 3, 3})}, {"b", at::randn({24})}}, x);
  compare(l, x, 0.07);
  const auto kinds = l.kinds();
  EXPECT_EQ(kinds.count("aten::conv2d"), 0u);
  EXPECT_EQ(kinds.count("aten::relu"), 0u);
  EXPECT_EQ(kinds.at(own() ? "tsquant::conv" : "quantized::conv2d_relu"), 1);
  EXPECT_EQ(l.kernel_of("conv2d"), own() ? "tsquant::conv" : "quantized::conv2d_relu");
  EXPECT_EQ(l.kernel_of("relu").rfind("fused into", 0), 0u);
}

TEST_P(AnyEngine, RectifiersWithAnUpperBoundAreClamps) {
  for (const char* activation : {"torch.hardtanh(y, 0.0, 6.0)", "torch.clamp(y, -1.0, 2.0)"}) {
    const std::string source = std::string(R"(
def forward(self, x):
    q = torch.quantize_per_tensor(x, 0.03, 128, 13)
    y = torch.conv2d(torch.dequantize(q), torch.dequantize(self.w), None, [2, 2], [0, 0], [1, 1], 1)
    y = )") + activation + R"(
    return torch.dequantize(torch.quantize_per_tensor(y, 0.03, 50, 13))
)";
    const auto x = at::randn({1, 4, 11, 11});
    const auto l = lower_here(source, {{"w", quantized_weight({16, 4, 3, 3})}}, x);
    compare(l, x, 0.03);
    if (own()) {
      EXPECT_EQ(l.kinds().size(), 4u) << *l.lowered.graph();  // quantize, conv, contiguous, dequantize
    }
  }
}

TEST_P(AnyEngine, OtherConvolutions) {
  struct Case {
    const char* call;
    std::vector<int64_t> weight, input;
    int64_t axis;
  };
  const std::vector<Case> cases = {
      {"torch.conv1d(x, w, None, [2], [1], [1], 1)", {16, 8, 3}, {2, 8, 20}, 0},
      {"torch.conv2d(x, w, None, [1, 1], [1, 1], [1, 1], 16)", {16, 1, 3, 3}, {1, 16, 8, 8}, 0},
      {"torch.conv3d(x, w, None, [1, 1, 1], [1, 1, 1], [1, 1, 1], 1)", {8, 4, 3, 3, 3}, {1, 4, 5, 5, 5}, 0},
      {"torch.conv_transpose2d(x, w, None, [2, 2], [1, 1], [0, 0], 1, [1, 1])", {8, 12, 3, 3}, {1, 8, 6, 6}, 1},
      {"torch.conv_transpose2d(x, w, None, [2, 2], [1, 1], [1, 1], 4, [1, 1])", {8, 3, 3, 3}, {1, 8, 6, 6}, 1}};
  for (const auto& c : cases) {
    SCOPED_TRACE(c.call);
    const std::string source = std::string(R"(
def forward(self, x):
    x = torch.dequantize(torch.quantize_per_tensor(x, 0.03, 0, 13))
    w = torch.dequantize(self.w)
    y = )") + c.call + R"(
    return torch.dequantize(torch.quantize_per_tensor(y, 0.05, 128, 13))
)";
    const auto x = at::rand(c.input) * 5;
    const auto l = lower_here(source, {{"w", quantized_weight(c.weight, c.axis)}}, x);
    compare(l, x, 0.05);
    const std::string call = c.call;
    const std::string type = call.substr(6, call.find('(') - 6);
    EXPECT_FALSE(l.kernel_of(type).empty());
    if (own()) {
      EXPECT_EQ(l.kernel_of(type), "tsquant::conv");
    }
  }
}

TEST_P(AnyEngine, LinearWithAndWithoutQuantizedResult) {
  const auto x = at::randn({7, 16});
  const auto l =
      lower_here(R"(
def forward(self, x):
    x = torch.dequantize(torch.quantize_per_tensor(x, 0.03, 120, 13))
    y = torch.relu(torch.linear(x, torch.dequantize(self.w), self.b))
    y = torch.dequantize(torch.quantize_per_tensor(y, 0.05, 0, 13))
    return torch.linear(y, torch.dequantize(self.v), self.b)
)",
                 {{"w", quantized_weight({32, 16})}, {"b", at::randn({32})}, {"v", quantized_weight({32, 32})}}, x);
  const auto kinds = l.kinds();
  EXPECT_EQ(kinds.at(own() ? "tsquant::linear" : "quantized::linear_relu"), 1);
  if (own()) {
    EXPECT_EQ(kinds.at("tsquant::linear_float"), 1);
  } else {
    EXPECT_EQ(kinds.at("aten::linear"), 1);
    EXPECT_NE(l.kernel_of("linear").find("Q/DQ: its result is used in float"), std::string::npos);
  }
  const EngineGuard guard(GetParam());
  const auto want = l.expected(x), got = l.actual(x);
  EXPECT_LT((got - want).abs().max().item<double>(), 0.05 * 127 * 0.012 * 3);
}

TEST_P(AnyEngine, ActivationsBehindLayersAreFusedWhereTheKernelsKnowThem) {
  const auto x = at::randn({1, 8, 10, 10});
  const auto l = lower_here(
      R"(
def forward(self, x):
    x = torch.dequantize(torch.quantize_per_tensor(x, 0.03, 120, 13))
    y = torch.hardswish(torch.conv2d(x, torch.dequantize(self.w), self.b, [1, 1], [1, 1], [1, 1], 1))
    y = torch.dequantize(torch.quantize_per_tensor(y, 0.05, 10, 13))
    y = torch.gelu(torch.conv2d(y, torch.dequantize(self.v), self.b, [1, 1], [1, 1], [1, 1], 1))
    y = torch.dequantize(torch.quantize_per_tensor(y, 0.05, 10, 13))
    y = torch.mish(torch.conv2d(y, torch.dequantize(self.v), self.b, [1, 1], [1, 1], [1, 1], 1))
    return torch.dequantize(torch.quantize_per_tensor(y, 0.05, 10, 13))
)",
      {{"w", quantized_weight({16, 8, 3, 3})}, {"b", at::randn({16})}, {"v", quantized_weight({16, 16, 3, 3})}}, x);
  if (own()) {
    EXPECT_EQ(l.kernel_of("hardswish"), "fused into tsquant::conv");
    EXPECT_EQ(l.kernel_of("gelu"), "fused into tsquant::conv");
    EXPECT_EQ(l.kinds().count("aten::hardswish") + l.kinds().count("aten::gelu"), 0u);
    EXPECT_EQ(l.kinds().at("tsquant::conv_float"), 1);
  } else {
    EXPECT_EQ(l.kinds().at("aten::hardswish"), 1);
  }
  EXPECT_EQ(l.kinds().at("aten::mish"), 1);
  const EngineGuard guard(GetParam());
  EXPECT_LE((l.expected(x) - l.actual(x)).abs().max().item<double>(), own() ? 0.0501 : 0.5);
}

const char* kResidual = R"(
def forward(self, x):
    x = torch.dequantize(torch.quantize_per_tensor(x, 0.03, 128, 13))
    y = torch.conv2d(x, torch.dequantize(self.w), self.b, [1, 1], [1, 1], [1, 1], 1)
    y = torch.dequantize(torch.quantize_per_tensor(y, 0.06, 0, 12))
    z = torch.relu(torch.add(y, x))
    return torch.dequantize(torch.quantize_per_tensor(z, 0.05, 0, 13))
)";

TEST_P(AnyEngine, ResidualConnection) {
  const auto x = at::randn({1, 8, 9, 9});
  const auto l = lower_here(kResidual, {{"w", quantized_weight({8, 8, 3, 3})}, {"b", at::randn({8})}}, x);
  const auto kinds = l.kinds();
  if (own()) {
    EXPECT_EQ(kinds.at("tsquant::conv_add"), 1);
    EXPECT_EQ(kinds.size(), 4u) << *l.lowered.graph();  // quantize, conv_add, contiguous, dequantize
  } else {
    EXPECT_EQ(kinds.at("quantized::add_relu"), 1);
  }
  const EngineGuard guard(GetParam());
  // The intermediate range saturates with these data: the fused kernel must do that as well. A tie of the intermediate
  // rounding may move the sum by one quantum of 0.06, which is up to two of 0.05.
  expect_close(l.actual(x), l.expected(x), 0.05, 2);
}

TEST_P(AnyEngine, MovedValuesStayCodesBitForBit) {
  const auto x = at::randn({2, 8, 10, 10});
  const auto l = lower_here(R"(
def forward(self, x):
    x = torch.dequantize(torch.quantize_per_tensor(x, 0.03, 117, 13))
    y = torch.max_pool2d(x, [3, 3], [2, 2], [1, 1])
    a, b = torch.chunk(y, 2, 1)
    c = torch.cat([b, a], 1)
    c = torch.dequantize(torch.quantize_per_tensor(c, 0.03, 117, 13))
    c = torch.constant_pad_nd(c, [1, 0, 0, 1], 0)
    return torch.flatten(c.permute([0, 2, 3, 1]), 1)
)",
                            {}, x);
  const EngineGuard guard(GetParam());
  EXPECT_TRUE(at::equal(l.actual(x), l.expected(x)));
  const auto kinds = l.kinds();
  EXPECT_EQ(kinds.at(own() ? "tsquant::dequantize" : "aten::dequantize"), 1) << *l.lowered.graph();
  EXPECT_EQ(kinds.at(own() ? "tsquant::cat" : "quantized::cat"), 1);
  EXPECT_EQ(l.kernel_of("max_pool2d"), own() ? "tsquant::max_pool" : "aten::max_pool2d");
}

TEST_P(AnyEngine, ElementwiseFunctions) {
  for (const char* function :
       {"torch.hardswish(x)", "torch.sigmoid(x)", "torch.relu(x)", "torch.tanh(x)", "torch.gelu(x)"}) {
    SCOPED_TRACE(function);
    const auto x = at::randn({2, 8, 10, 10}) * 3;
    const auto l = lower_here(R"(
def forward(self, x):
    x = torch.dequantize(torch.quantize_per_tensor(x, 0.04, 128, 13))
    y = )" + std::string(function) +
                                  R"(
    return torch.dequantize(torch.quantize_per_tensor(y, 0.031, 12, 13))
)",
                              {}, x);
    const EngineGuard guard(GetParam());
    if (own()) {
      EXPECT_TRUE(at::equal(l.actual(x), l.expected(x)));
      EXPECT_EQ(l.kinds().at("tsquant::lookup"), 1);
    } else {
      EXPECT_LE((l.actual(x) - l.expected(x)).abs().max().item<double>(), 0.0311);
    }
  }
}

TEST_P(AnyEngine, AdditionProductAndConcatenation) {
  const auto x = at::randn({1, 4, 6, 6});
  const auto l = lower_here(R"(
def forward(self, x):
    a = torch.dequantize(torch.quantize_per_tensor(x, 0.04, 128, 13))
    b = torch.dequantize(torch.quantize_per_tensor(x * 0.5, 0.02, 100, 13))
    s = torch.dequantize(torch.quantize_per_tensor(torch.add(a, b), 0.05, 128, 13))
    p = torch.dequantize(torch.quantize_per_tensor(torch.mul(a, b), 0.03, 60, 13))
    return torch.dequantize(torch.quantize_per_tensor(torch.cat([s, p], 1), 0.06, 128, 13))
)",
                            {}, x);
  compare(l, x, 0.06);
  const auto kinds = l.kinds();
  EXPECT_EQ(kinds.at(own() ? "tsquant::add" : "quantized::add"), 1);
  EXPECT_EQ(kinds.at(own() ? "tsquant::mul" : "quantized::mul"), 1);
  EXPECT_EQ(kinds.at(own() ? "tsquant::cat" : "quantized::cat"), 1);
}

TEST_P(AnyEngine, AveragesKeepTheirPrecision) {
  const auto x = at::randn({2, 16, 7, 7}) + 0.3;
  const auto l = lower_here(R"(
def forward(self, x):
    x = torch.dequantize(torch.quantize_per_tensor(x, 0.04, 128, 13))
    y = torch.mean(x, [2, 3])
    return torch.dequantize(torch.quantize_per_tensor(y, 0.01, 128, 13))
)",
                            {}, x);
  compare(l, x, 0.01);
  if (own()) {
    EXPECT_EQ(l.kinds().at("tsquant::mean"), 1);
  } else {
    EXPECT_NE(l.kernel_of("mean").find("coarser"), std::string::npos) << l.kernel_of("mean");
  }
}

TEST_P(AnyEngine, BranchesAreLowered) {
  const auto l = lower_here(R"(
def forward(self, x):
    x = torch.dequantize(torch.quantize_per_tensor(x, 0.03, 128, 13))
    if x.size(0) > 1:
        y = torch.conv2d(x, torch.dequantize(self.w), None, [1, 1], [0, 0], [1, 1], 1)
        y = torch.dequantize(torch.quantize_per_tensor(y, 0.05, 128, 13))
    else:
        y = torch.conv2d(x, torch.dequantize(self.v), None, [1, 1], [0, 0], [1, 1], 1)
        y = torch.dequantize(torch.quantize_per_tensor(y, 0.05, 128, 13))
    return y
)",
                            {{"w", quantized_weight({8, 8, 1, 1})}, {"v", quantized_weight({8, 8, 1, 1})}},
                            at::randn({1, 8, 6, 6}));
  compare(l, at::randn({1, 8, 6, 6}), 0.05);
  compare(l, at::randn({2, 8, 6, 6}), 0.05);
  EXPECT_EQ(l.kinds().at(own() ? "tsquant::conv" : "quantized::conv2d"), 2);
}

TEST_P(AnyEngine, SavedFileHoldsTheWeightsOnceAndLoads) {
  const auto weight = quantized_weight({64, 64, 3, 3});
  const auto x = at::randn({1, 64, 9, 9});
  const auto l = lower_here(kResidual, {{"w", weight}, {"b", at::randn({64})}}, x);
  const std::string path = temp_dir() + "/lowered.pt";
  l.lowered.save(path, {{"tsquant_engine", GetParam()}});
  EXPECT_LT(std::filesystem::file_size(path), static_cast<size_t>(weight.numel()) + 20000);
  const auto before = at::globalContext().qEngine();
  auto module = load_quantized(path);
  EXPECT_TRUE(at::equal(module.forward({x}).toTensor(), l.actual(x)));
  if (GetParam() == "qnnpack") {
    EXPECT_EQ(at::globalContext().qEngine(), at::QEngine::QNNPACK);
  }
  at::globalContext().setQEngine(before);
}

TEST(LowerToEngine, ConvolutionWithAnotherReaderIsNotFusedIntoTheAddition) {
  const auto l = lower(R"(
def forward(self, x):
    x = torch.dequantize(torch.quantize_per_tensor(x, 0.03, 128, 13))
    y = torch.conv2d(x, torch.dequantize(self.w), None, [1, 1], [1, 1], [1, 1], 1)
    q = torch.quantize_per_tensor(y, 0.06, 128, 13)
    z = torch.add(torch.dequantize(q), x)
    z = torch.dequantize(torch.quantize_per_tensor(z, 0.05, 128, 13))
    return z * torch.dequantize(q)
)",
                       {{"w", quantized_weight({8, 8, 3, 3})}}, "tsquant", at::randn({1, 8, 9, 9}));
  const auto kinds = l.kinds();
  EXPECT_EQ(kinds.count("tsquant::conv_add"), 0u);
  EXPECT_EQ(kinds.at("tsquant::conv"), 1);
  EXPECT_EQ(kinds.at("tsquant::add"), 1);
}

TEST(LowerToEngine, SharedWeightsServeBothConvolutions) {
  const auto l = lower(R"(
def forward(self, x):
    x = torch.dequantize(torch.quantize_per_tensor(x, 0.03, 128, 13))
    w = torch.dequantize(self.w)
    y = torch.conv2d(x, w, None, [1, 1], [1, 1], [1, 1], 1)
    y = torch.dequantize(torch.quantize_per_tensor(y, 0.06, 128, 13))
    z = torch.conv2d(y, w, None, [1, 1], [1, 1], [1, 1], 1)
    return torch.dequantize(torch.quantize_per_tensor(z, 0.3, 128, 13))
)",
                       {{"w", quantized_weight({8, 8, 3, 3})}}, "tsquant", at::randn({1, 8, 9, 9}));
  const auto x = at::randn({1, 8, 9, 9});
  EXPECT_LE((l.actual(x) - l.expected(x)).abs().max().item<double>(), 0.31);
  EXPECT_EQ(l.kinds().at("tsquant::conv"), 2);
}

Lowered lower_depthwise(double bound, const std::string& engine) {
  torch::manual_seed(23);
  // The operators' parameters are graph constants in the reference form; the test's attributes are frozen into them.
  auto module = define(R"(
def forward(self, x):
    x = torch.dequantize(torch.quantize_per_tensor(x, 0.03, 128, 13))
    y = torch.conv2d(x, torch.dequantize(self.w), self.b, [1, 1], [0, 0], [1, 1], 1)
    y = torch.hardtanh(y, 0.0, )" +
                           std::to_string(bound) + R"()
    q = torch.quantize_per_channel(y, self.s, self.z, 1, 13)
    y = torch.conv2d(torch.dequantize(q), torch.dequantize(self.v), None, [1, 1], [1, 1], [1, 1], 8)
    return torch.dequantize(torch.quantize_per_tensor(y, 0.05, 128, 13))
)",
                       {{"w", quantized_weight({8, 8, 1, 1})},
                        {"b", at::randn({8})},
                        {"v", quantized_weight({8, 1, 3, 3})},
                        {"s", at::rand({8}) * 0.01 + 0.01},
                        {"z", at::zeros({8}, at::kLong)}});
  Model model = Model::from(module);
  for (auto* node : nodes_of_kind(model.graph()->block(), {"aten::quantize_per_channel"})) {
    const torch::jit::WithInsertPoint guard(node);
    node->replaceInput(1, model.graph()->insertConstant(module.attr("s").toTensor()));
    node->replaceInput(2, model.graph()->insertConstant(module.attr("z").toTensor()));
  }
  return lower(model, engine, at::randn({2, 8, 7, 7}));
}

TEST_P(AnyEngine, DepthwiseInputWithOneScalePerChannel) {
  const auto l = lower_depthwise(6.0, GetParam());
  compare(l, at::randn({2, 8, 7, 7}), 0.05);
  EXPECT_EQ(l.kinds().at(own() ? "tsquant::conv" : "quantized::conv2d"), own() ? 2 : 1) << *l.lowered.graph();
  EXPECT_EQ(l.kinds().count("aten::quantize_per_channel"), 0u);
}

TEST(LowerToEngine, ChannelScalesBecomeFactorsWhenTheActivationCutsTheirRange) {
  const auto l = lower_depthwise(0.5, "tsquant");
  EXPECT_EQ(l.kinds().count("aten::quantize_per_channel"), 0u);
  EXPECT_EQ(l.kinds().at("aten::mul"), 1);
  const auto x = at::randn({2, 8, 7, 7});
  expect_close(l.actual(x), l.expected(x), 0.05);
}

TEST(LowerToEngine, WeightsThatWereNotFoldedArePackedToo) {
  const auto l = lower(R"(
def forward(self, x):
    x = torch.dequantize(torch.quantize_per_tensor(x, 0.03, 128, 13))
    w = torch.dequantize(torch.quantize_per_tensor(self.w, 0.02, 0, 12))
    y = torch.conv2d(x, w, None, [1, 1], [1, 1], [1, 1], 1)
    return torch.dequantize(torch.quantize_per_tensor(y, 0.06, 128, 13))
)",
                       {{"w", at::randn({8, 8, 3, 3})}}, "tsquant", at::randn({1, 8, 9, 9}));
  EXPECT_EQ(l.kinds().at("tsquant::conv"), 1);
  EXPECT_EQ(l.kinds().count("aten::quantize_per_tensor"), 0u);
  const auto x = at::randn({1, 8, 9, 9});
  expect_close(l.actual(x), l.expected(x), 0.06);
}

TEST(LowerToEngine, UnsuitableWeightsKeepTheReason) {
  const auto weight = at::quantize_per_tensor(at::randn({8, 8, 3, 3}), 0.02, 5, at::kQInt8);
  const auto l = lower(kConvRelu, {{"w", weight}, {"b", at::randn({8})}}, "tsquant", at::randn({1, 8, 9, 9}));
  EXPECT_EQ(l.kernel_of("conv2d"), "Q/DQ: its weight has a zero point");
  const auto x = at::randn({1, 8, 9, 9});
  EXPECT_TRUE(at::equal(l.actual(x), l.expected(x)));
}

const char* kAddition = R"(
def forward(self, x):
    a = torch.dequantize(torch.quantize_per_tensor(x, 0.03, 128, 13))
    b = torch.dequantize(torch.quantize_per_tensor(torch.neg(x), 0.05, 128, 13))
    return torch.dequantize(torch.quantize_per_tensor(torch.add(a, b, alpha=1), 0.06, 128, 13))
)";

/// An addition between float operators costs two conversions in and one out, which no processor gains back.
TEST(LowerToEngineCost, TableLeavesASlowIslandInFloat) {
  const auto x = at::randn({1, 64, 56, 56});
  const auto off = lower(kAddition, {}, "tsquant", x, LoweringCost::kOff);
  EXPECT_EQ(off.kinds().at("tsquant::add"), 1);
  EXPECT_EQ(off.kernel_of("add"), "tsquant::add");
  const auto table = lower(kAddition, {}, "tsquant", x, LoweringCost::kTable);
  EXPECT_EQ(table.kinds(), (std::map<std::string, int>{{"aten::neg", 1}, {"aten::add", 1}})) << *table.lowered.graph();
  EXPECT_EQ(table.kernel_of("add").rfind("float: int8 with its conversions is estimated at ", 0), 0u);
  EXPECT_TRUE(at::equal(table.actual(x), x + at::neg(x)));
}

TEST(LowerToEngineCost, TinyLossesAreIgnored) {
  const auto l = lower(kAddition, {}, "tsquant", at::randn({1, 4, 5, 5}), LoweringCost::kTable);
  EXPECT_EQ(l.kinds().at("tsquant::add"), 1);
}

TEST(LowerToEngineCost, ConvolutionsPay) {
  const auto x = at::randn({1, 64, 28, 28});
  const auto lower_at = [&](LoweringCost cost) {
    return lower(kConvRelu, {{"w", quantized_weight({64, 64, 3, 3})}, {"b", at::randn({64})}}, "tsquant", x, cost);
  };
  EXPECT_EQ(lower_at(LoweringCost::kTable).kinds().count("aten::conv2d"), 0u);
  // What is measured depends on the machine: our kernels may be limited to less than LibTorch's use. It is obeyed.
  const auto measured = lower_at(LoweringCost::kMeasure);
  const bool in_float = measured.kinds().count("aten::conv2d") == 1;
  EXPECT_EQ(measured.kernel_of("conv2d").rfind("float: int8 with its conversions is estimated at ", 0) == 0, in_float)
      << measured.kernel_of("conv2d");
  EXPECT_EQ(measured.kinds().count("tsquant::conv"), in_float ? 0u : 1u);
}

TEST(LowerToEngine, UnknownEngineIsRefused) {
  EXPECT_THROW(lower(kConvRelu, {{"w", quantized_weight({8, 8, 3, 3})}, {"b", at::randn({8})}}, "abacus",
                     at::randn({1, 8, 9, 9})),
               Error);
}

}  // namespace
}  // namespace tsquant::testing

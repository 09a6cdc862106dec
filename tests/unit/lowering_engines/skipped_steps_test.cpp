#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "graph/node_lists.h"
#include "lowered.h"
#include "support/support.h"
#include "tsquant/engine.h"

namespace tsquant::testing {
namespace {

constexpr double kScale = 1.0 / 32;

/// Something for every step: signed and unsigned codes, scales per channel, a residual, pooling, concatenation, tables,
/// moved codes, products of activations and with a parameter, a layer that stays in float, a float convolution of one
/// pixel, a table of codes.
const char* kEverything = R"(
def forward(self, x):
    a = torch.dequantize(torch.quantize_per_tensor(x, 0.03125, 0, 12))
    c = torch.relu(torch.conv2d(a, torch.dequantize(self.w1), self.b1, [1, 1], [1, 1]))
    c = torch.dequantize(torch.quantize_per_channel(c, self.scales, self.zeros, 1, 13))
    c = torch.relu(torch.conv2d(c, torch.dequantize(self.w2), None, [1, 1], [1, 1], [1, 1], 8))
    c = torch.dequantize(torch.quantize_per_tensor(c, 0.03125, 0, 13))
    d = torch.conv2d(c, torch.dequantize(self.w3), None, [1, 1], [1, 1])
    d = torch.dequantize(torch.quantize_per_tensor(d, 0.03125, 128, 13))
    s = torch.dequantize(torch.quantize_per_tensor(torch.relu(torch.add(d, c)), 0.03125, 0, 13))
    p = torch.dequantize(torch.quantize_per_tensor(torch.avg_pool2d(s, [2, 2]), 0.015625, 0, 13))
    m = torch.max_pool2d(s, [2, 2])
    k = torch.dequantize(torch.quantize_per_tensor(torch.cat([p, m], 1), 0.03125, 0, 13))
    g = torch.dequantize(torch.quantize_per_tensor(torch.sigmoid(k), 0.00390625, 0, 13))
    r = torch.dequantize(torch.quantize_per_tensor(torch.mul(g, k), 0.03125, 0, 13))
    f = torch.linear(torch.conv2d(r, torch.dequantize(self.w4)).mean([2, 3]), torch.dequantize(self.w5), self.b5)
    e = torch.conv2d(x.mean([0, 2, 3], True), self.w6)
    f = f + torch.embedding((self.codes.to(6) - self.zero_points) * self.row_scales, (x.mean([1, 2, 3]) > 0).to(4))
    f = f + torch.linear(x.mean([2, 3]), torch.dequantize(self.half))
    state = torch.zeros([1, 3, 8])
    weights = [torch.dequantize(self.lstm_input), torch.dequantize(self.lstm_hidden), self.lstm_bias, self.lstm_bias]
    y, hidden, cell = torch.lstm(x.mean([3]), [state, state], weights, True, 1, 0.0, False, False, False)
    f = f + y.mean()
    t = torch.dequantize(torch.quantize_per_tensor(x.flatten(2), 0.03125, 128, 13))
    u = torch.matmul(torch.softmax(torch.matmul(t, t.transpose(1, 2)) / 8.0, -1), t)
    f = f + torch.dequantize(torch.quantize_per_tensor(u, 0.03125, 128, 13)).mean()
    f = f + torch.matmul(t, t.transpose(1, 2)).mean() * 0.01
    v = torch.dequantize(torch.quantize_per_tensor(s.reshape([2, -1]), 0.03125, 0, 13))
    f = f + torch.matmul(v, torch.dequantize(self.w7)) * 0.01
    return torch.dequantize(torch.quantize_per_tensor(f + v.mean(1, True) + e.mean(), 0.03125, 128, 13))
)";

Model network() {
  torch::manual_seed(5);
  const auto module = define(kEverything, {{"w1", quantized_weight({8, 3, 3, 3})},
                                           {"b1", at::randn({8}) * 0.1},
                                           {"w2", quantized_weight({8, 1, 3, 3})},
                                           {"w3", quantized_weight({8, 8, 3, 3})},
                                           {"w4", quantized_weight({4, 16, 1, 1})},
                                           {"w5", quantized_weight({5, 4})},
                                           {"w7", quantized_weight({512, 5}, 1)},
                                           {"b5", at::randn({5}) * 0.1},
                                           {"w6", at::randn({2, 3, 1, 1}) * 0.1},
                                           {"half", at::randn({5, 3}).to(at::kHalf)},
                                           {"lstm_input", quantized_weight({32, 8})},
                                           {"lstm_hidden", quantized_weight({32, 8})},
                                           {"lstm_bias", at::randn({32}) * 0.1},
                                           {"scales", at::rand({8}) * 0.02 + 0.01},
                                           {"zeros", at::zeros({8}, at::kLong)},
                                           {"codes", at::randint(0, 16, {2, 5}, at::kByte)},
                                           {"zero_points", at::rand({2, 1}) + 7},
                                           {"row_scales", at::rand({2, 1}) * 0.05}});
  Model model = Model::from(module);
  // As insertion leaves them: constants.
  const std::set<std::string> parameters{"scales", "zeros", "zero_points", "row_scales"};
  for (auto* node : nodes_of_kind(model.graph()->block(), {"prim::GetAttr"})) {
    const std::string name = node->s(c10::attr::name);
    if (parameters.count(name) == 0) continue;
    const torch::jit::WithInsertPoint guard(node);
    node->output()->replaceAllUsesWith(model.graph()->insertConstant(module.attr(name).toTensor().detach()));
  }
  return model;
}

std::vector<std::string> optional_steps() {
  std::vector<std::string> names;
  for (const auto& row : all_rewrites()) {
    if (row.phase == RewritePhase::kLowering && row.need == RewriteNeed::kOptional) names.push_back(row.name);
  }
  return names;
}

class SkippedStep : public ::testing::TestWithParam<std::string> {};

TEST_P(SkippedStep, LeavesTheResultRight) {
  const Model model = network();
  const auto x = at::rand({2, 3, 8, 8}) * 4 - 2;
  for (const auto& engine : available_engines()) {
    RewriteOptions options;
    options.skip = {GetParam()};
    const Lowered lowered = lower(model, engine, x, LoweringCost::kTable, options);
    for (const auto& record : lowered.report.rewrites) EXPECT_NE(record.name, GetParam());
    const auto expected = lowered.expected(x), actual = lowered.actual(x);
    EXPECT_LE((actual - expected).abs().max().item<double>(), 2 * kScale) << engine;
    EXPECT_GT(expected.std().item<double>(), kScale) << "the data do not exercise the range";
  }
}

INSTANTIATE_TEST_SUITE_P(Steps, SkippedStep, ::testing::ValuesIn(optional_steps()),
                         [](const auto& info) { return info.param; });

TEST(SkippedSteps, HaveSomethingToDoInThisNetwork) {
  std::set<std::string> changing;
  for (const auto& engine : available_engines()) {
    const auto lowered = lower(network(), engine, at::rand({2, 3, 8, 8}) * 4 - 2, LoweringCost::kTable);
    for (const auto& record : lowered.report.rewrites) {
      if (record.changed) changing.insert(record.name);
    }
  }
  for (const auto& name : optional_steps()) EXPECT_TRUE(changing.count(name)) << name;
}

}  // namespace
}  // namespace tsquant::testing

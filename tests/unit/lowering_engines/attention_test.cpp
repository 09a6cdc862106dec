#include <fmt/format.h>
#include <gtest/gtest.h>

#include "lowered.h"
#include "support/support.h"

namespace tsquant::testing {
namespace {

constexpr double kCodeScale = 1.0 / 32;

/// Attention of four heads of eight on x: [batch, rows, 32], with these scores and weights.
std::string attention_source(const std::string& scores, const std::string& weights = "w",
                             const std::string& extra = "") {
  return fmt::format(R"(
def forward(self, x):
    t = torch.dequantize(torch.quantize_per_tensor(x, 0.03125, 128, 13))
    h = t.view([t.size(0), t.size(1), 4, 8]).permute([0, 2, 1, 3])
    q, k, v = h, h, h
    s = {}
    w = torch.softmax(s, -1)
    w = {}
    y = torch.matmul(w, v)
    y = torch.dequantize(torch.quantize_per_tensor(y, 0.03125, 120, 13))
    y = y.permute([0, 2, 1, 3]).reshape([x.size(0), x.size(1), 32])
    {}
    return y
)",
                     scores, weights, extra);
}

const std::string kPlainScores = "torch.matmul(q, k.transpose(-2, -1)) / 2.8";
const std::string kRoundedWeights = "torch.dequantize(torch.quantize_per_tensor(w, 0.00390625, 0, 13))";

Lowered lower_attention_of(const std::string& source,
                           const std::vector<std::pair<std::string, at::Tensor>>& params = {}) {
  torch::manual_seed(3);
  return lower(source, params, "tsquant", at::randn({2, 11, 32}));
}

/// The kernel runs, nothing of the float operators is left, and other inputs than the probe give the reference, too.
void expect_attention(const Lowered& lowered, const std::string& what) {
  const auto kinds = lowered.kinds();
  ASSERT_EQ(kinds.count("tsquant::attention"), 1u) << what;
  for (const char* kind : {"aten::matmul", "aten::bmm", "aten::baddbmm", "aten::softmax", "aten::div", "aten::mul"}) {
    EXPECT_EQ(kinds.count(kind), 0u) << what << ": " << kind;
  }
  for (const int64_t rows : {11, 70}) {
    const auto x = at::randn({rows == 11 ? 2 : 4, rows, 32});
    expect_close(lowered.actual(x), lowered.expected(x), kCodeScale);
  }
}

TEST(LowerAttention, AllSpellings) {
  const std::vector<std::string> scores = {
      kPlainScores,
      "torch.matmul(q, k.transpose(-2, -1))",
      "torch.matmul(q, k.transpose(-2, -1)) * 0.35",
      "torch.matmul(q, k.permute([0, 1, 3, 2])) * torch.tensor(0.35)",
      "torch.matmul(q / 2.8, k.transpose(-2, -1))",
      "torch.matmul(0.35 * q, k.transpose(-2, -1))",
      "torch.matmul(q * (float(q.size(-1)) ** -0.5), k.transpose(-2, -1))",
      "torch.matmul(torch.dequantize(torch.quantize_per_tensor(q / 2.8, 0.012, 131, 13)), k.transpose(-2, -1))",
      "torch.matmul(torch.dequantize(torch.quantize_per_tensor(q, 0.04, 131, 13)), k.transpose(-2, -1)) / 2.8"};
  for (const std::string& spelling : scores) {
    expect_attention(lower_attention_of(attention_source(spelling)), spelling);
    expect_attention(lower_attention_of(attention_source(spelling, kRoundedWeights)), spelling + ", rounded weights");
  }
}

TEST(LowerAttention, ThreeDimensionsAndMasks) {
  const std::string flat = R"(
def forward(self, x):
    t = torch.dequantize(torch.quantize_per_tensor(x, 0.03125, 128, 13))
    h = t.transpose(0, 1).contiguous().view([t.size(1), -1, 8]).transpose(0, 1)
    m = self.m[0, :x.size(1), :x.size(1)]
    w = torch.softmax({}, 2)
    y = torch.dequantize(torch.quantize_per_tensor(torch.bmm(w, h), 0.03125, 120, 13))
    return y.transpose(0, 1).contiguous().view([x.size(1), x.size(0), 32])
)";
  const std::vector<std::pair<std::string, at::Tensor>> mask = {{"m", at::randn({1, 70, 70})}};
  for (const char* scores : {"torch.bmm(h / 2.8, h.transpose(-2, -1))", "torch.bmm(h, h.transpose(1, 2)) + m",
                             "m + torch.bmm(h, h.transpose(1, 2)) * 0.35",
                             "torch.baddbmm(m.expand(h.size(0), -1, -1), h, h.transpose(1, 2))",
                             "torch.bmm(h, h.transpose(1, 2)) * 0.35 + m + torch.sigmoid(m)"}) {
    expect_attention(lower_attention_of(fmt::format(fmt::runtime(flat), scores), mask), scores);
  }
}

/// Windows of an image, with a mask for each window, as in Swin transformers.
TEST(LowerAttention, MasksOfWindows) {
  const std::string source = R"(
def forward(self, x):
    t = torch.dequantize(torch.quantize_per_tensor(x, 0.03125, 128, 13))
    h = t.view([-1, 5, 4, 8]).permute([0, 2, 1, 3])
    s = torch.matmul(h, h.transpose(-2, -1)) + self.bias
    s = s.view([x.size(0), 3, 4, 5, 5]) + self.mask.unsqueeze(1).unsqueeze(0)
    w = torch.softmax(s.view([-1, 4, 5, 5]), -1)
    y = torch.dequantize(torch.quantize_per_tensor(torch.matmul(w, h), 0.03125, 120, 13))
    return y.permute([0, 2, 1, 3]).reshape([x.size(0), 15, 32])
)";
  torch::manual_seed(4);
  const Lowered l = lower(source, {{"bias", at::randn({1, 4, 5, 5})}, {"mask", at::randn({3, 5, 5})}}, "tsquant",
                          at::randn({1, 15, 32}));
  EXPECT_EQ(l.kinds().count("tsquant::attention"), 1u);
  EXPECT_EQ(l.kinds().count("aten::softmax"), 0u);
  for (const int64_t images : {1, 3}) {
    const auto x = at::randn({images, 15, 32});
    expect_close(l.actual(x), l.expected(x), kCodeScale);
  }
}

TEST(LowerAttention, TheFusedOperatorAndAFloatResult) {
  const std::string source = R"(
def forward(self, x):
    t = torch.dequantize(torch.quantize_per_tensor(x, 0.03125, 128, 13))
    h = t.view([t.size(0), t.size(1), 4, 8]).permute([0, 2, 1, 3])
    y, w = torch._scaled_dot_product_attention(h, h, h, None, 0.0, False, False)
    return y.permute([0, 2, 1, 3]).reshape([x.size(0), x.size(1), 32])
)";
  const Lowered l = lower_attention_of(source);
  EXPECT_EQ(l.kinds().count("tsquant::attention_float"), 1u);
  const auto x = at::randn({3, 9, 32});
  EXPECT_LE((l.actual(x) - l.expected(x)).abs().max().item<double>(), 1e-5);
}

TEST(LowerAttention, TheReportNamesTheKernel) {
  const Lowered l = lower_attention_of(attention_source(kPlainScores, kRoundedWeights));
  EXPECT_EQ(l.kernel_of("softmax"), "fused into tsquant::attention");
  EXPECT_EQ(l.kernel_of("div"), "fused into tsquant::attention");
}

TEST(LowerAttention, StaysWhereOthersReadInBetween) {
  const auto stays = [](const std::string& scores, const std::string& weights, const std::string& extra) {
    const Lowered l = lower_attention_of(attention_source(scores, weights, extra));
    EXPECT_EQ(l.kinds().count("tsquant::attention") + l.kinds().count("tsquant::attention_float"), 0u)
        << scores << ", " << extra;
    EXPECT_EQ(l.kinds().at("aten::softmax"), 1) << scores << ", " << extra;
    const auto x = at::randn({2, 12, 32});
    expect_close(l.actual(x), l.expected(x), kCodeScale, 2);
  };
  stays(kPlainScores, "w", "y = y + s.mean()");
  stays(kPlainScores, "w", "y = y + w.mean()");
  stays(kPlainScores, "w * 0.5", "");
  stays("torch.relu(torch.matmul(q, k.transpose(-2, -1)))", "w", "");
  stays("torch.matmul(q, x[:, None, :, :8].transpose(-2, -1))", "w", "");
  stays("torch.matmul(q, k.transpose(-2, -1)).masked_fill(x[:, None, None, :1, 0] > 1, 0.5)", "w", "");
  stays("(torch.matmul(q, k.transpose(-2, -1)) + x[:, None, :, :1]) / 2.8", "w", "");
}

TEST(LowerAttention, OtherEnginesLeaveItAlone) {
  torch::manual_seed(3);
  const Lowered l = lower(attention_source(kPlainScores), {}, "qnnpack", at::randn({2, 11, 32}));
  EXPECT_EQ(l.kinds().at("aten::softmax"), 1);
}

TEST(LowerProducts, OfTwoActivations) {
  const std::string source = R"(
def forward(self, x):
    t = torch.dequantize(torch.quantize_per_tensor(x, 0.03125, 128, 13))
    a = torch.matmul(t, t.transpose(1, 2))
    b = torch.dequantize(torch.quantize_per_tensor(torch.bmm(t.transpose(1, 2), t), 0.5, 100, 13))
    return torch.dequantize(torch.quantize_per_tensor(torch.relu(torch.matmul(t, b)), 2.0, 0, 13)).sum(2) + a.mean()
)";
  const Lowered l = lower_attention_of(source);
  EXPECT_EQ(l.kinds().at("tsquant::matmul"), 2);
  EXPECT_EQ(l.kinds().at("tsquant::matmul_float"), 1);
  EXPECT_EQ(l.kinds().count("aten::matmul"), 0u);
  const auto x = at::randn({3, 17, 32});
  expect_close(l.actual(x), l.expected(x), 2.0, 2);
}

TEST(LowerProducts, OfVectorsStay) {
  const std::string source = R"(
def forward(self, x):
    t = torch.dequantize(torch.quantize_per_tensor(x, 0.03125, 128, 13))
    return torch.dequantize(torch.quantize_per_tensor(torch.matmul(t, t[0, 0]), 0.5, 100, 13))
)";
  const Lowered l = lower_attention_of(source);
  EXPECT_EQ(l.kinds().count("tsquant::matmul"), 0u);
  EXPECT_EQ(l.kernel_of("matmul"), "Q/DQ: the engine's kernel multiplies matrices");
}

}  // namespace
}  // namespace tsquant::testing

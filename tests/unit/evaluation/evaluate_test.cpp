#include "evaluation/evaluate.h"

#include <gtest/gtest.h>

#include <cmath>

#include "support/support.h"
#include "tsquant/error.h"

namespace tsquant {
namespace {

using testing::define;

Runnable runnable(const std::string& source) { return {"model", define(source + "\n"), ""}; }

DataFile rows(const at::Tensor& x, const at::Tensor& labels, int64_t batch) {
  return {Dataset::from_rows({x}, batch), {x}, labels};
}

TEST(Evaluate, Top1AndAgreementInPercent) {
  // The largest score is at column 0, 1, 2, 2; the reference looks at the negated scores.
  const auto x = at::tensor({9., 1., 0., 1., 5., 2., 0., 1., 2., 1., 0., 3.}, c10::kFloat).view({4, 3});
  auto model = runnable("def forward(self, x):\n  return x");
  auto reference = runnable("def forward(self, x):\n  y = x.clone()\n  y[0, 0] = -1.0\n  return (y, x)");
  const auto data = rows(x, at::tensor({0, 1, 0, 2}, c10::kLong), 3);
  const auto result = evaluate(model, data, Metric::kTop1, &reference);
  EXPECT_DOUBLE_EQ(result.value, 75.0);
  EXPECT_EQ(result.samples, 4);
  // The reference changes the first row of each batch: row 0 to column 1, row 3 stays at column 2.
  EXPECT_DOUBLE_EQ(*result.agreement, 75.0);
  EXPECT_DOUBLE_EQ(evaluate(model, rows(x, {}, 2), Metric::kAgreement, &model).value, 100.0);
}

TEST(Evaluate, AModelThatWritesIntoItsInputSeesEverySampleAsItWas) {
  const std::string path = testing::temp_dir() + "/writes.pt";
  define("def forward(self, x):\n  x.mul_(-1.0)\n  return x\n").save(path);
  auto model = load_runnable(path);
  EXPECT_TRUE(model.writes_to_arguments);
  const auto x = at::tensor({3., 1., 2., 0., 5., 9., 4., 4., 1.}, c10::kFloat).view({3, 3}), before = x.clone();
  EXPECT_DOUBLE_EQ(evaluate(model, rows(x, {}, 1), Metric::kAgreement, &model).value, 100.0);
  EXPECT_TRUE(at::equal(x, before));
  define("def forward(self, x):\n  y = x + 1\n  y.mul_(2)\n  return y\n").save(path);
  EXPECT_FALSE(load_runnable(path).writes_to_arguments) << "samples are not copied for nothing";
}

TEST(Evaluate, PerplexityOfUniformLogitsIsTheVocabulary) {
  auto model = runnable("def forward(self, x):\n  return torch.zeros([x.size(0), x.size(1), 7])");
  const auto tokens = at::zeros({5, 4}, c10::kLong);
  const auto result = evaluate(model, rows(tokens, tokens, 2), Metric::kPerplexity);
  EXPECT_NEAR(result.value, 7.0, 1e-5);
  EXPECT_NEAR(*result.nats, std::log(7.0), 1e-6);
  EXPECT_EQ(result.samples, 20);
  EXPECT_EQ(evaluate(model, rows(tokens, {}, 2), Metric::kPerplexity).samples, 15);
}

TEST(Evaluate, PerplexityUsesTheGivenTargets) {
  // The model is sure that the next token is the present one plus one.
  auto model = runnable("def forward(self, x):\n  return 50.0 * (torch.arange(12) == (x + 1).unsqueeze(-1)).float()");
  const auto tokens = at::arange(8, c10::kLong).view({2, 4});
  EXPECT_NEAR(evaluate(model, rows(tokens, tokens + 1, 1), Metric::kPerplexity).value, 1.0, 1e-6);
  EXPECT_NEAR(evaluate(model, rows(tokens, {}, 1), Metric::kPerplexity).value, 1.0, 1e-6);
  EXPECT_GT(evaluate(model, rows(tokens, tokens, 1), Metric::kPerplexity).value, 1e10);
}

TEST(Evaluate, Refusals) {
  auto model = runnable("def forward(self, x):\n  return x");
  const auto x = at::ones({2, 3});
  EXPECT_THROW(evaluate(model, rows(x, {}, 1), Metric::kTop1), Error);
  EXPECT_THROW(evaluate(model, rows(x, {}, 1), Metric::kAgreement), Error);
  EXPECT_THROW(metric_from_string("bleu"), Error);
  EXPECT_EQ(metric_from_string("perplexity"), Metric::kPerplexity);
  try {
    auto wrong = runnable("def forward(self, x):\n  return torch.matmul(x, x)");
    evaluate(wrong, rows(x, at::zeros({2}, c10::kLong), 2), Metric::kTop1);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kDataset);
    EXPECT_NE(std::string(error.what()).find("mat1 and mat2"), std::string::npos) << error.what();
  }
  const auto stop = [](const std::string&, int64_t, int64_t) { return false; };
  try {
    evaluate(model, rows(x, at::zeros({2}, c10::kLong), 1), Metric::kTop1, nullptr, stop);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kCancelled);
  }
}

}  // namespace
}  // namespace tsquant

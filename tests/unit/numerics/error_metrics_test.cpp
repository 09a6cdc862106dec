#include "numerics/error_metrics.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <cmath>

#include "tsquant/error.h"

namespace tsquant {
namespace {

TEST(ErrorMetrics, KnownValues) {
  const auto r = torch::tensor({3.0f, 4.0f}), v = torch::tensor({3.0f, 4.5f});
  EXPECT_DOUBLE_EQ(sqnr_db(r, v), 10 * std::log10(25 / 0.25));
  EXPECT_DOUBLE_EQ(max_abs_error(r, v), 0.5);
  EXPECT_DOUBLE_EQ(cosine(r, v), 27 / (5 * std::sqrt(29.25)));
  EXPECT_DOUBLE_EQ(cosine(r, -r), -1);
}

TEST(ErrorMetrics, EdgeCases) {
  const auto zero = torch::zeros({3}), one = torch::ones({3});
  EXPECT_EQ(sqnr_db(one, one), INFINITY);
  EXPECT_EQ(sqnr_db(zero, zero), INFINITY);
  EXPECT_EQ(sqnr_db(zero, one), -INFINITY);
  EXPECT_EQ(cosine(zero, zero), 1);
  EXPECT_EQ(cosine(zero, one), 0);
  EXPECT_EQ(max_abs_error(torch::empty({0}), torch::empty({0})), 0);
  EXPECT_TRUE(std::isnan(max_abs_error(one, one * NAN)));
  EXPECT_TRUE(std::isnan(sqnr_db(one, one * NAN)));
  EXPECT_THROW(sqnr_db(one, torch::ones({1, 3})), Error);
}

TEST(ErrorMetrics, StreamsAndMerges) {
  torch::manual_seed(1);
  const auto r = torch::randn({6, 5}), v = r + 0.1 * torch::randn({6, 5});
  ErrorMetrics whole, first, second;
  whole.add(r, v);
  first.add(r.narrow(0, 0, 2), v.narrow(0, 0, 2));
  second.add(r.narrow(0, 2, 4), v.narrow(0, 2, 4));
  first.merge(second);
  EXPECT_NEAR(first.sqnr_db(), whole.sqnr_db(), 1e-9);
  EXPECT_NEAR(first.cosine(), whole.cosine(), 1e-12);
  EXPECT_EQ(first.max_abs_error(), whole.max_abs_error());
  EXPECT_NEAR(first.mean_squared_error(), (r - v).pow(2).mean().item<double>(), 1e-7);
  EXPECT_EQ(first.count(), 30);
}

TEST(ErrorMetrics, ReadsQuantizedAndTransposedTensors) {
  const auto r = torch::tensor({{1.0f, 2.0f}, {3.0f, 4.0f}});
  const auto q = at::quantize_per_tensor(r, 0.5, 0, c10::kQInt8);
  EXPECT_EQ(sqnr_db(r, q), INFINITY);
  EXPECT_EQ(max_abs_error(r.t(), r.t().contiguous()), 0);
}

}  // namespace
}  // namespace tsquant

#include "observers/histogram.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <numeric>

namespace tsquant {
namespace {

void add(Histogram& histogram, const at::Tensor& x) {
  const auto dense = x.contiguous();
  histogram.add(dense.data_ptr<float>(), dense.numel(), dense.min().item<float>(), dense.max().item<float>());
}

double total(const Histogram& histogram) {
  const auto counts = histogram.counts();
  return std::accumulate(counts.begin(), counts.end(), 0.0);
}

TEST(Histogram, CountsAsHistcDoes) {
  torch::manual_seed(4);
  const auto x = torch::randn({100000});
  Histogram histogram;
  add(histogram, x);
  const auto expected = at::histc(x, 2048).to(at::kDouble);
  EXPECT_TRUE(at::equal(at::tensor(histogram.counts(), at::kDouble), expected));
}

TEST(Histogram, KeepsAllValuesWhenTheRangeGrows) {
  torch::manual_seed(4);
  Histogram histogram;
  for (int i = 1; i <= 8; ++i) add(histogram, torch::randn({1000}) * i * i);
  EXPECT_NEAR(total(histogram), 8000, 1e-6);
}

TEST(Histogram, ASingleValueMovesToItsBin) {
  Histogram histogram(4);
  add(histogram, torch::full({10}, 3.0f));
  add(histogram, torch::tensor({0.0f, 4.0f}));
  EXPECT_EQ(histogram.counts(), (std::vector<double>{1, 0, 0, 11}));
}

TEST(Histogram, DropsRareOutliers) {
  torch::manual_seed(4);
  Histogram histogram;
  add(histogram, torch::cat({torch::randn({200000}), torch::full({1}, 100.0f)}));
  const auto range = histogram.search();
  EXPECT_LT(range.second, 50.0f);
  EXPECT_GT(range.second, 3.0f);
}

TEST(Histogram, MergeEqualsOneStreamWithinABin) {
  torch::manual_seed(4);
  const auto a = torch::randn({5000}), b = torch::randn({5000}) * 3 + 1;
  Histogram one, first, second;
  add(one, a);
  add(one, b);
  add(first, a);
  add(second, b);
  first.merge(second);
  EXPECT_EQ(first.min(), one.min());
  EXPECT_EQ(first.max(), one.max());
  EXPECT_NEAR(total(first), total(one), 1e-6);
  const float bin = (one.max() - one.min()) / 2048;
  EXPECT_NEAR(first.search().first, one.search().first, 4 * bin);
  EXPECT_NEAR(first.search().second, one.search().second, 4 * bin);
}

TEST(Histogram, HugeAndTinyRangesStayOrdered) {
  for (float scale : {3e38f, 1e20f, 1e-20f, 1e-40f}) {
    Histogram histogram;
    add(histogram, torch::linspace(-1, 1, 5000) * scale);
    const auto range = histogram.search();
    EXPECT_NEAR(total(histogram), 5000, 1e-6) << scale;
    EXPECT_LE(range.first, range.second) << scale;
    EXPECT_TRUE(std::isfinite(range.first) && std::isfinite(range.second)) << scale;
    EXPECT_GT(range.second, 0.5f * scale);
  }
}

}  // namespace
}  // namespace tsquant

#include "evaluation/benchmark.h"

#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include "support/support.h"
#include "tsquant/error.h"

namespace tsquant {
namespace {

using testing::define;

Runnable matmuls(int count) {
  std::string source = "def forward(self, x):\n";
  for (int i = 0; i < count; ++i) source += "  x = torch.relu(torch.matmul(x, self.w))\n";
  return {std::to_string(count), define(source + "  return x\n", {{"w", at::randn({128, 128})}}), ""};
}

TEST(Benchmark, SlowerModelsHaveLargerRatios) {
  const Sample sample{{at::randn({128, 128})}, {}};
  BenchmarkOptions options;
  options.rounds = 21;
  const int threads = at::get_num_threads();
  const auto results = benchmark({matmuls(1), matmuls(20)}, sample, options);
  EXPECT_EQ(at::get_num_threads(), threads);
  ASSERT_EQ(results.size(), 2u);
  EXPECT_EQ(results[0].model, "1");
  EXPECT_DOUBLE_EQ(results[0].ratio_to_first, 1.0);
  EXPECT_GT(results[1].ratio_to_first, 3.0);
  EXPECT_EQ(results[1].rounds, 21);
  EXPECT_LE(results[1].min_ms, results[1].median_ms);
  EXPECT_NEAR(results[1].ratio_to_first, results[1].median_ms / results[0].median_ms, 1e-12);
  options.threads = 0;
  EXPECT_THROW(benchmark({matmuls(1)}, sample, options), Error);
}

TEST(Benchmark, OnlyFloatModelsAreOptimised) {
  Runnable quantized{"q",
                     define("def forward(self, x):\n  return torch.quantize_per_tensor(x, 0.1, 0, 13)"
                            ".dequantize()\n"),
                     ""};
  EXPECT_TRUE(has_quantized_operators(quantized.module));
  EXPECT_FALSE(has_quantized_operators(matmuls(1).module));
  BenchmarkOptions options;
  options.rounds = 1;
  options.optimize = true;
  const auto results = benchmark({matmuls(1), quantized}, {{at::randn({128, 128})}, {}}, options);
  EXPECT_TRUE(results[0].optimized);
  EXPECT_FALSE(results[1].optimized);
}

}  // namespace
}  // namespace tsquant

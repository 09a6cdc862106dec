#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>

#include "conv_case.h"

namespace tsquant::testing {
namespace {

using kernels::gemm_table;
using kernels::GemmRow;

/// Every row of the kernel table; rows that this processor lacks are reported as skipped.
class ConvRows : public ::testing::TestWithParam<size_t> {
 protected:
  void SetUp() override {
    if (!row().supports()) GTEST_SKIP() << "this processor has no " << row().name;
  }
  const GemmRow& row() const { return gemm_table()[GetParam()]; }
};
INSTANTIATE_TEST_SUITE_P(Table, ConvRows, ::testing::Range<size_t>(1, gemm_table().size()),
                         [](const auto& info) { return gemm_table()[info.param].name; });

constexpr uint32_t kCases = 2400;
constexpr int64_t kMostProducts = 150000;

TEST(ConvReference, PlainCppEqualsTheDefinition) {
  size_t different = 0;
  for (uint32_t seed = 0; seed < kCases; ++seed) {
    const RandomConv c = random_conv(seed, kMostProducts);
    const auto result = run_row(gemm_table().front(), c);
    ASSERT_EQ(result, run_naively(c)) << "seed " << seed << ": " << c.describe();
    if (*std::max_element(result.begin(), result.end()) != *std::min_element(result.begin(), result.end())) ++different;
  }
  EXPECT_GT(different, kCases * 6 / 10) << "most results must not be constant";
}

TEST_P(ConvRows, EqualPlainCppOnRandomConvolutions) {
  for (uint32_t seed = 0; seed < kCases; ++seed) {
    const RandomConv c = random_conv(seed, kMostProducts);
    ASSERT_EQ(run_row(row(), c), run_row(gemm_table().front(), c)) << "seed " << seed << ": " << c.describe();
  }
}

/// Many channels and products, as most layers of networks have: rows may take other loops for them.
kernels::ConvGeometry wide_geometry(uint32_t seed) {
  std::mt19937 engine(seed);
  const auto from = [&](int64_t low, int64_t high) {
    return std::uniform_int_distribution<int64_t>(low, high)(engine);
  };
  kernels::ConvGeometry g;
  g.batch = from(0, 3) == 0 ? from(2, 3) : 1;
  g.out_channels = from(40, 100);
  g.width = from(1, 40);
  if (from(0, 1) == 0) {  // 1x1, a third of them with a stride or padding
    g.channels = from(60, 300);
    if (from(0, 1) == 0) g.height = from(1, 9);
    if (from(0, 2) == 0) g.stride_w = g.stride_h = 2;
    if (from(0, 4) == 0) g.pad_w = g.pad_h = 1;
    return g;
  }
  g.channels = from(17, 40);
  g.height = from(2, 7);
  g.kernel_h = g.kernel_w = from(2, 3);
  g.stride_h = g.stride_w = from(1, 2);
  g.pad_h = g.pad_w = 1;
  g.transposed = from(0, 3) == 0;
  return g;
}

TEST_P(ConvRows, EqualPlainCppWithManyChannels) {
  for (uint32_t seed = 0; seed < 400; ++seed) {
    const RandomConv c = random_conv_of(wide_geometry(seed), seed);
    ASSERT_EQ(run_row(row(), c), run_row(gemm_table().front(), c)) << "seed " << seed << ": " << c.describe();
  }
}

TEST_P(ConvRows, AnyNumberOfThreadsGivesTheSameBytes) {
  const int before = at::get_num_threads();
  for (uint32_t seed = 0; seed < 12; ++seed) {
    const RandomConv c = random_conv(100000 + seed, 60000000);
    at::set_num_threads(1);
    const auto want = run_row(row(), c);
    for (const int threads : {2, 3, 7}) {
      at::set_num_threads(threads);
      EXPECT_EQ(run_row(row(), c), want) << threads << " threads, " << c.describe();
    }
  }
  at::set_num_threads(before);
}

TEST_P(ConvRows, NaNInTheBiasShowsInFloatResults) {
  for (uint32_t seed = 0, seen = 0; seen < 10; ++seed) {
    RandomConv c = random_conv(seed, kMostProducts);
    if (!c.floats()) continue;
    ++seen;
    for (auto& bias : c.bias) bias[0] = std::nanf("");
    const auto bytes = run_row(row(), c);
    for (size_t i = 0; i < c.results(); ++i) {
      float value;
      std::memcpy(&value, bytes.data() + i * sizeof(float), sizeof(float));
      EXPECT_EQ(std::isnan(value), i % static_cast<size_t>(c.geometry.out_channels) == 0) << c.describe();
    }
  }
}

/// Products and sums whose exact value lies close to the middle between two floats: a multiplication and an addition
/// that round one after the other show here.
TEST_P(ConvRows, MultiplyAndAddRoundOnce) {
  RandomConv c = random_conv(3, kMostProducts);
  c.geometry = kernels::ConvGeometry();
  c.geometry.channels = c.geometry.out_channels = 64;
  c.geometry.width = 4000;
  c.phases = kernels::phases_of(c.geometry);
  c.result = RandomConv::Result::kFloats;
  c.other.clear();
  c.epilogue = kernels::Epilogue();
  c.epilogue.pixel_stride = 64;
  c.epilogue.float_low = -std::numeric_limits<float>::infinity();
  c.epilogue.float_high = std::numeric_limits<float>::infinity();
  std::mt19937 engine(9);
  c.source.resize(64 * 4000);
  for (auto& code : c.source) code = static_cast<uint8_t>(engine());
  c.weight.resize(64 * 64);
  for (auto& w : c.weight) w = static_cast<int8_t>(engine());
  c.multiplier.assign(128, 0.0f);
  c.bias.assign(1, std::vector<float>(128, 0.0f));
  size_t twice = 0;
  for (size_t i = 0; i < 64; ++i) {
    c.multiplier[i] = std::ldexp(1.0f + static_cast<float>(engine() % 8388608) / 8388608.0f, -static_cast<int>(i % 7));
    c.bias[0][i] = -c.multiplier[i] * static_cast<float>(static_cast<int>(engine() % 400000) - 200000);
  }
  const auto want = run_naively(c);
  ASSERT_EQ(run_row(row(), c), want);
  // The case is worth something only when rounding twice gives other bits.
  for (size_t i = 0; i < 64; ++i) {
    for (int sum = -100000; sum < 100000; sum += 37) {
      const volatile float product = static_cast<float>(sum) * c.multiplier[i];
      if (product + c.bias[0][i] != std::fma(static_cast<float>(sum), c.multiplier[i], c.bias[0][i])) ++twice;
    }
  }
  EXPECT_GT(twice, 1000u);
}

}  // namespace
}  // namespace tsquant::testing

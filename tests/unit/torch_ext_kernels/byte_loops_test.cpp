#include "kernels/byte_loops.h"

#include <gtest/gtest.h>

#include <vector>

#include "kernel_call.h"
#include "kernels/cpu_features.h"

namespace tsquant::testing {
namespace {

// Lengths around the vector sizes: the vector part and the tail must agree with the plain formula.
TEST(ByteLoops, SumsOfPixelsForEveryChannelCount) {
  for (int64_t channels = 1; channels < 40; ++channels) {
    std::vector<uint8_t> x(static_cast<size_t>(channels * 9));
    for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<uint8_t>(i * 37);
    std::vector<int32_t> want(static_cast<size_t>(channels), 0), sums(static_cast<size_t>(channels), -1);
    for (size_t i = 0; i < x.size(); ++i) want[i % static_cast<size_t>(channels)] += x[i];
    kernels::sum_pixels(x.data(), 9, channels, sums.data());
    EXPECT_EQ(sums, want) << channels;
  }
}

TEST(ByteLoops, LookupOfEveryLength) {
  std::vector<uint8_t> table(256);
  for (int i = 0; i < 256; ++i) table[static_cast<size_t>(i)] = static_cast<uint8_t>(i * 91 + 7);
  for (int64_t n = 0; n < 200; ++n) {
    std::vector<uint8_t> x(static_cast<size_t>(n)), y(static_cast<size_t>(n)), want;
    for (int64_t i = 0; i < n; ++i) {
      x[static_cast<size_t>(i)] = static_cast<uint8_t>(255 - i);
      want.push_back(table[x[static_cast<size_t>(i)]]);
    }
    kernels::lookup_codes(x.data(), n, table.data(), y.data());
    EXPECT_EQ(y, want) << n;
  }
}

TEST(ByteLoops, AdditionOfEveryLength) {
  kernels::AddParams p;
  p.scale_a = 0.5f;
  p.scale_b = 0.25f;
  p.zero_point_a = 100;
  p.zero_point_b = 3;
  p.inverse_out = 1.0f;
  p.zero_point = 20;
  p.low = 20;
  for (int64_t n = 0; n < 70; ++n) {
    std::vector<uint8_t> a(static_cast<size_t>(n)), b(a), y(a), want;
    for (size_t i = 0; i < a.size(); ++i) {
      a[i] = static_cast<uint8_t>(i * 53);
      b[i] = static_cast<uint8_t>(i * 29 + 1);
      const float sum = static_cast<float>(a[i] - 100) * 0.5f + static_cast<float>(b[i] - 3) * 0.25f;
      const float code = std::nearbyint(sum) + 20;
      want.push_back(static_cast<uint8_t>(std::min(255.0f, std::max(20.0f, code))));
    }
    kernels::add_codes(a.data(), b.data(), n, p, y.data());
    EXPECT_EQ(y, want) << n;
  }
}

TEST(CpuFeatures, OperatorReportsTheSameAsTheHeader) {
  EXPECT_EQ(run_kernel("has_vnni", {}).toBool(), kernels::has_vnni());
}

}  // namespace
}  // namespace tsquant::testing

#include "kernels/winograd.h"

#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "conv_case.h"

namespace tsquant::testing {
namespace {

using kernels::ConvGeometry;
using kernels::gemm_table;
using kernels::winograd_table;
using kernels::WinogradConv;
using kernels::WinogradKernel;

/// Every instruction set that Winograd convolutions are written for.
class Winograd : public ::testing::TestWithParam<size_t> {
 protected:
  void SetUp() override {
    if (!kernel().supports()) GTEST_SKIP() << "this processor has no " << kernel().name;
  }
  const WinogradKernel& kernel() const { return winograd_table()[GetParam()]; }
  std::vector<uint8_t> run(const RandomConv& c) const {
    const WinogradConv conv(kernel(), c.weight.data(), c.geometry);
    return run_kernel([&](const uint8_t* source,
                          const auto& epilogues) { conv.run(c.geometry, source, c.zero_point, epilogues.front()); },
                      c);
  }
};
INSTANTIATE_TEST_SUITE_P(Table, Winograd, ::testing::Range<size_t>(0, winograd_table().size()),
                         [](const auto& info) { return winograd_table()[info.param].name; });

ConvGeometry geometry_of(int64_t channels, int64_t out, int64_t height, int64_t width, int64_t pad_h = 1,
                         int64_t pad_w = 1, int64_t batch = 1) {
  ConvGeometry g;
  g.batch = batch;
  g.channels = channels;
  g.out_channels = out;
  g.height = height;
  g.width = width;
  g.kernel_h = g.kernel_w = 3;
  g.pad_h = pad_h;
  g.pad_w = pad_w;
  return g;
}

/// Odd and even sizes, images smaller than a tile, several images, channels that do not fill a panel, paddings of zero
/// to more than the kernel.
std::vector<ConvGeometry> geometries() {
  std::vector<ConvGeometry> all;
  for (const int64_t channels : {16, 48, 64}) {
    for (const int64_t out : {1, 7, 16, 17, 40}) {
      all.push_back(geometry_of(channels, out, 5, 6));
      all.push_back(geometry_of(channels, out, 1, 1));
      all.push_back(geometry_of(channels, out, 3, 4, 0, 0));
      all.push_back(geometry_of(channels, out, 2, 9, 2, 3, 3));
    }
  }
  for (int64_t size = 1; size <= 17; ++size) {
    const int64_t width = 18 - size, padding = width < 3 ? 1 : size % 4;  // there is a result
    all.push_back(geometry_of(16, 20, size, width, 1, padding, 2));
  }
  return all;
}

TEST_P(Winograd, EqualsPlainCpp) {
  uint32_t seed = 0;
  size_t different = 0, cases = 0;
  for (const ConvGeometry& g : geometries()) {
    for (int i = 0; i < 28; ++i, ++cases) {
      const RandomConv c = random_conv_of(g, seed++);
      ASSERT_TRUE(WinogradConv::supports(g, c.weight.data()));
      const auto result = run(c);
      ASSERT_FALSE(result.empty());
      ASSERT_EQ(result, run_row(gemm_table().front(), c)) << "seed " << seed - 1 << ": " << c.describe();
      if (*std::max_element(result.begin(), result.end()) != *std::min_element(result.begin(), result.end())) {
        ++different;
      }
    }
  }
  EXPECT_GE(cases, 2000u);
  EXPECT_GT(different, cases * 5 / 10) << "most results must not be constant";
}

/// Several blocks and panels, so that threads begin and end inside of them.
TEST_P(Winograd, AnyNumberOfThreadsGivesTheSameBytes) {
  const int before = at::get_num_threads();
  for (const ConvGeometry& g : {geometry_of(96, 80, 23, 30), geometry_of(256, 33, 9, 7, 1, 1, 3)}) {
    for (uint32_t seed = 0; seed < 3; ++seed) {
      const RandomConv c = random_conv_of(g, seed);
      const auto want = run_row(gemm_table().front(), c);
      for (const int threads : {1, 2, 3, 7}) {
        at::set_num_threads(threads);
        EXPECT_EQ(run(c), want) << threads << " threads, " << c.describe();
      }
    }
  }
  at::set_num_threads(before);
}

/// The largest sums that are let through: on the way to them four times as much leaves 32 bits.
TEST_P(Winograd, ExtremeCodesAndWeightsAreExact) {
  RandomConv c = random_conv_of(geometry_of(1824, 2, 4, 4), 1);
  c.result = RandomConv::Result::kFloats;
  c.other.clear();
  c.epilogue = kernels::Epilogue();
  c.epilogue.pixel_stride = 2;
  c.epilogue.float_low = -1e30f;
  c.epilogue.float_high = 1e30f;
  std::fill(c.multiplier.begin(), c.multiplier.end(), 1.0f);
  std::fill(c.bias[0].begin(), c.bias[0].end(), 0.0f);
  for (const int code : {0, 255}) {
    for (const int weight : {-128, 127}) {
      std::fill(c.source.begin(), c.source.end(), static_cast<uint8_t>(code));
      std::fill(c.weight.begin(), c.weight.end(), static_cast<int8_t>(weight));
      c.zero_point = static_cast<uint8_t>(255 - code);
      ASSERT_TRUE(WinogradConv::supports(c.geometry, c.weight.data()));
      EXPECT_EQ(run(c), run_naively(c)) << code << " * " << weight;
    }
  }
}

TEST(WinogradConv, ConvolutionsThatItCannotComputeAreLeftToOthers) {
  const auto supported = [](const ConvGeometry& g, int8_t weight = 1) {
    const std::vector<int8_t> weights(static_cast<size_t>(g.channels * g.out_channels * g.taps()), weight);
    return WinogradConv::supports(g, weights.data());
  };
  const ConvGeometry good = geometry_of(32, 8, 6, 6);
  EXPECT_TRUE(supported(good));
  const auto changed = [&](auto change) {
    ConvGeometry g = good;
    change(g);
    return supported(g);
  };
  EXPECT_FALSE(changed([](ConvGeometry& g) { g.stride_w = 2; }));
  EXPECT_FALSE(changed([](ConvGeometry& g) { g.dilation_h = 2; }));
  EXPECT_FALSE(changed([](ConvGeometry& g) { g.kernel_w = 1; }));
  EXPECT_FALSE(changed([](ConvGeometry& g) { g.groups = 2; }));
  EXPECT_FALSE(changed([](ConvGeometry& g) { g.channels = 24; }));
  EXPECT_FALSE(changed([](ConvGeometry& g) { g.depth = g.kernel_d = 3; }));
  EXPECT_FALSE(changed([](ConvGeometry& g) { g.transposed = true; }));
  // Four times 255 * 128 * 9 * 1840 is more than 2^31.
  EXPECT_FALSE(supported(geometry_of(1840, 2, 6, 6), -128));
  EXPECT_TRUE(supported(geometry_of(1840, 2, 6, 6), 126));
}

TEST(WinogradConv, SmallImagesWithManyChannelsStayDirect) {
  EXPECT_TRUE(WinogradConv::pays(geometry_of(64, 64, 56, 56)));
  EXPECT_TRUE(WinogradConv::pays(geometry_of(256, 256, 14, 14)));
  EXPECT_FALSE(WinogradConv::pays(geometry_of(512, 512, 3, 3)));
  EXPECT_FALSE(WinogradConv::pays(geometry_of(16, 16, 1, 1)));
}

TEST(WinogradConv, IsNotUsedWhereBytesAreMultipliedAtOnce) {
  EXPECT_EQ(kernels::winograd_kernel(kernels::Isa::kScalar), nullptr);
  EXPECT_EQ(kernels::winograd_kernel(kernels::Isa::kAvxVnni), nullptr);
  EXPECT_EQ(kernels::winograd_kernel(kernels::Isa::kAvx512Vnni), nullptr);
  for (const WinogradKernel& kernel : winograd_table()) {
    EXPECT_EQ(kernels::winograd_kernel(kernel.isa), kernel.supports() ? &kernel : nullptr) << kernel.name;
  }
}

}  // namespace
}  // namespace tsquant::testing

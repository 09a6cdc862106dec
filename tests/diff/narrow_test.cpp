#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "conv_case.h"
#include "kernels/narrow_conv.h"

namespace tsquant::testing {
namespace {

using kernels::ConvGeometry;
using kernels::gemm_table;
using kernels::Isa;
using kernels::narrow_kernel;
using kernels::NarrowConv;

ConvGeometry narrow_geometry(int64_t channels, int64_t out, int64_t height, int64_t width, int64_t batch = 1) {
  ConvGeometry g;
  g.batch = batch;
  g.channels = channels;
  g.out_channels = out;
  g.height = height;
  g.width = width;
  return g;
}

class Narrow : public ::testing::TestWithParam<Isa> {
 protected:
  void SetUp() override {
    if (!kernels::has_isa(GetParam())) GTEST_SKIP() << "this processor has no " << kernels::isa_name(GetParam());
  }
  std::vector<uint8_t> run(const RandomConv& c) const {
    const NarrowConv conv(*narrow_kernel(GetParam()), c.weight.data(), c.geometry);
    return run_kernel(
        [&](const uint8_t* source, const auto& epilogues) { conv.run(c.geometry, source, epilogues.front()); }, c);
  }
};
INSTANTIATE_TEST_SUITE_P(Targets, Narrow, ::testing::Values(Isa::kAvx2),
                         [](const auto& info) { return kernels::isa_name(info.param); });

/// Output channels that fill blocks, leave half of one, and overlap.
TEST_P(Narrow, EqualsPlainCpp) {
  uint32_t seed = 0;
  size_t different = 0, cases = 0;
  for (const int64_t channels : {8, 16, 24}) {
    for (int64_t out = 32; out <= 112; out += out < 80 ? 1 : 5) {
      const ConvGeometry g = narrow_geometry(channels, out, 1 + out % 3, 1 + out % 4, 1 + out % 2);
      ASSERT_TRUE(NarrowConv::supports(g));
      for (int i = 0; i < 48; ++i) {
        const RandomConv c = random_conv_of(g, seed++);
        if (c.result != RandomConv::Result::kCodes && c.result != RandomConv::Result::kClampedCodes) continue;
        ++cases;
        const auto result = run(c);
        ASSERT_EQ(result, run_row(gemm_table().front(), c)) << "seed " << seed - 1 << ": " << c.describe();
        if (*std::max_element(result.begin(), result.end()) != *std::min_element(result.begin(), result.end())) {
          ++different;
        }
      }
    }
  }
  EXPECT_GE(cases, 2000u);
  EXPECT_GT(different, cases / 2) << "most results must not be constant";
}

TEST_P(Narrow, AnyNumberOfThreadsGivesTheSameBytes) {
  const int before = at::get_num_threads();
  uint32_t seed = 0;
  RandomConv c;
  do {
    c = random_conv_of(narrow_geometry(24, 144, 61, 43), seed++);
  } while (c.result != RandomConv::Result::kCodes);
  const auto want = run_row(gemm_table().front(), c);
  for (const int threads : {1, 2, 3, 7}) {
    at::set_num_threads(threads);
    EXPECT_EQ(run(c), want) << threads << " threads";
  }
  at::set_num_threads(before);
}

TEST(NarrowConv, OtherConvolutionsAndResultsAreLeftToOthers) {
  const ConvGeometry good = narrow_geometry(16, 32, 4, 4);
  EXPECT_TRUE(NarrowConv::supports(good));
  const auto changed = [&](auto change) {
    ConvGeometry g = good;
    change(g);
    return NarrowConv::supports(g);
  };
  EXPECT_FALSE(changed([](ConvGeometry& g) { g.channels = 12; }));
  EXPECT_FALSE(changed([](ConvGeometry& g) { g.channels = 32; }));
  EXPECT_FALSE(changed([](ConvGeometry& g) { g.out_channels = 31; }));
  EXPECT_FALSE(changed([](ConvGeometry& g) { g.stride_w = 2; }));
  EXPECT_FALSE(changed([](ConvGeometry& g) { g.pad_h = 1; }));
  EXPECT_FALSE(changed([](ConvGeometry& g) { g.kernel_w = 3; }));
  EXPECT_FALSE(changed([](ConvGeometry& g) { g.groups = 2; }));
  EXPECT_FALSE(changed([](ConvGeometry& g) { g.transposed = true; }));
  uint8_t code = 0;
  kernels::Epilogue codes;
  codes.codes = &code;
  EXPECT_TRUE(NarrowConv::supports(codes));
  kernels::Epilogue residual = codes, activated = codes;
  residual.other = &code;
  activated.activation = kernels::Activation::hardswish;
  EXPECT_FALSE(NarrowConv::supports(residual));
  EXPECT_FALSE(NarrowConv::supports(activated));
  EXPECT_FALSE(NarrowConv::supports(kernels::Epilogue()));
  for (const Isa isa : {Isa::kScalar, Isa::kSse4, Isa::kAvx512, Isa::kAvx512Vnni}) {
    EXPECT_EQ(narrow_kernel(isa), nullptr) << "the row of the table is the better way";
  }
}

}  // namespace
}  // namespace tsquant::testing

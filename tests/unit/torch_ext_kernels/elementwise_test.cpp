#include <gtest/gtest.h>
#include <torch/script.h>

#include "kernel_call.h"

namespace tsquant::testing {
namespace {

at::Tensor random_codes(at::IntArrayRef sizes, double scale, int64_t zero_point) {
  return at::_make_per_tensor_quantized_tensor(at::randint(0, 256, sizes, at::kByte), scale, zero_point);
}

TEST(Quantize, SameCodesAsLibTorchInChannelsLastLayout) {
  torch::manual_seed(1);
  for (const auto& sizes :
       std::vector<std::vector<int64_t>>{{2, 3, 17, 19}, {1, 64, 5, 5}, {7, 33}, {1, 1, 4, 4}, {0, 3, 4, 4}}) {
    const auto x = at::randn(sizes) * 3;
    const auto y = run_kernel("quantize", {x, 0.037, 119, at::kQUInt8}).toTensor();
    const auto want = at::quantize_per_tensor(x, 0.037, 119, at::kQUInt8);
    EXPECT_TRUE(at::equal(y.int_repr().contiguous(), want.int_repr())) << x.sizes();
    if (sizes.size() == 4) {
      EXPECT_TRUE(y.is_contiguous(at::MemoryFormat::ChannelsLast));
      const auto last = x.contiguous(at::MemoryFormat::ChannelsLast);
      const auto z = run_kernel("quantize", {last, 0.037, 119, at::kQUInt8}).toTensor();
      EXPECT_TRUE(at::equal(z.int_repr().contiguous(), want.int_repr())) << x.sizes();
    }
  }
}

TEST(Quantize, OtherTypesAreLeftToLibTorch) {
  const auto x = at::randn({3, 4});
  const auto y = run_kernel("quantize", {x, 0.1, -3, at::kQInt8}).toTensor();
  EXPECT_TRUE(at::equal(y.int_repr(), at::quantize_per_tensor(x, 0.1, -3, at::kQInt8).int_repr()));
}

class Add : public ::testing::TestWithParam<bool> {};
INSTANTIATE_TEST_SUITE_P(Relu, Add, ::testing::Bool());

TEST_P(Add, BitIdenticalToFloatAddition) {
  torch::manual_seed(8);
  const auto a = random_codes({2, 19, 7, 5}, 0.0313, 128), b = random_codes({2, 19, 7, 5}, 0.0177, 3);
  auto sum = a.dequantize() + b.dequantize();
  if (GetParam()) sum = sum.relu();
  const auto want = at::quantize_per_tensor(sum, 0.0251, 101, at::kQUInt8);
  const auto y = run_kernel("add", {a, b, GetParam(), 0.0251, 101}).toTensor();
  EXPECT_TRUE(at::equal(y.int_repr(), want.int_repr()));
  const auto mixed = run_kernel("add", {a, b.contiguous(at::MemoryFormat::ChannelsLast), GetParam(), 0.0251, 101});
  EXPECT_TRUE(at::equal(mixed.toTensor().int_repr(), want.int_repr()));
}

TEST_P(Add, Broadcasts) {
  const auto a = random_codes({2, 5, 3, 3}, 0.5, 128), b = random_codes({5, 1, 1}, 0.25, 3);
  auto sum = a.dequantize() + b.dequantize();
  if (GetParam()) sum = sum.relu();
  const auto y = run_kernel("add", {a, b, GetParam(), 1.0, 50}).toTensor();
  EXPECT_TRUE(at::equal(y.int_repr().contiguous(), at::quantize_per_tensor(sum, 1.0, 50, at::kQUInt8).int_repr()));
}

TEST(Lookup, ReadsTheTableForEveryCodeAndLayout) {
  const auto table = at::randint(0, 256, {256}, at::kByte);
  const auto x = random_codes({2, 9, 13, 11}, 0.1, 4).contiguous(at::MemoryFormat::ChannelsLast);
  const auto y = run_kernel("lookup", {x, table, 0.7, 9}).toTensor();
  const auto want = table.index({x.int_repr().to(at::kLong)});
  EXPECT_TRUE(at::equal(y.int_repr(), want));
  EXPECT_DOUBLE_EQ(y.q_scale(), 0.7);
  EXPECT_THROW(run_kernel("lookup", {x, at::zeros({255}, at::kByte), 0.7, 9}), c10::Error);
}

TEST(Mean, OverPixelsAndOverOtherDimensions) {
  const auto x = random_codes({2, 37, 8, 4}, 0.25, 77);
  for (const auto& dims : std::vector<std::vector<int64_t>>{{2, 3}, {-1, -2}, {1}, {0, 3}}) {
    for (const bool keep : {false, true}) {
      const auto want = at::quantize_per_tensor(x.dequantize().mean(dims, keep), 0.0625, 60, at::kQUInt8);
      const auto y = run_kernel("mean", {x, dims, keep, 0.0625, 60}).toTensor();
      ASSERT_EQ(y.sizes(), want.sizes());
      EXPECT_TRUE(at::equal(y.int_repr(), want.int_repr())) << dims;
    }
  }
}

}  // namespace
}  // namespace tsquant::testing

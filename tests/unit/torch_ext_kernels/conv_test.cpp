#include <ATen/Parallel.h>
#include <gtest/gtest.h>
#include <torch/script.h>

#include <sstream>
#include <thread>

#include "kernel_call.h"
#include "kernels/cpu_features.h"

namespace tsquant::testing {
namespace {

std::vector<ConvCase> cases() {
  return {
      {"Plain", {2, 16, 9, 11}, 64, {3, 3}, {1, 1}, {1, 1}, {1, 1}},
      {"ZeroPoint", {1, 32, 7, 7}, 96, {3, 3}, {1, 1}, {1, 1}, {1, 1}, 1, false, 128},
      {"Strided", {1, 64, 14, 14}, 128, {3, 3}, {2, 2}, {1, 1}, {1, 1}, 1, false, 3},
      {"Pointwise", {3, 20, 5, 5}, 40, {1, 1}, {1, 1}, {0, 0}, {1, 1}},
      {"PointwiseStride", {1, 64, 9, 9}, 24, {1, 1}, {2, 2}, {0, 0}, {1, 1}},
      {"Stem", {2, 3, 30, 33}, 64, {7, 7}, {2, 2}, {3, 3}, {1, 1}, 1, false, 114},
      {"Gray", {1, 1, 12, 12}, 10, {5, 5}, {1, 1}, {2, 0}, {1, 1}, 1, false, 10},
      {"FewChannels", {1, 4, 8, 8}, 17, {3, 2}, {1, 2}, {1, 1}, {2, 1}, 1, false, 77},
      {"OddChannels", {1, 6, 8, 8}, 33, {3, 3}, {1, 1}, {1, 1}, {2, 2}, 1, false, 5},
      {"Dilated", {1, 24, 12, 12}, 48, {3, 3}, {1, 1}, {2, 2}, {2, 2}},
      {"OnePixel", {1, 128, 1, 1}, 70, {1, 1}, {1, 1}, {0, 0}, {1, 1}},
      {"Depthwise", {1, 32, 10, 10}, 32, {3, 3}, {1, 1}, {1, 1}, {1, 1}, 32},
      {"DepthwiseZeroPoint", {2, 24, 9, 9}, 24, {3, 3}, {2, 2}, {1, 1}, {1, 1}, 24, false, 128},
      {"Grouped", {1, 16, 8, 8}, 32, {3, 3}, {1, 1}, {1, 1}, {1, 1}, 4, false, 9},
      {"Line", {2, 12, 21}, 20, {5}, {2}, {2}, {1}, 1, false, 128},
      {"Volume", {1, 8, 5, 6, 7}, 16, {3, 3, 3}, {1, 1, 1}, {1, 1, 1}, {1, 1, 1}, 1, false, 11},
      {"Transposed", {1, 16, 6, 6}, 24, {3, 3}, {2, 2}, {1, 1}, {1, 1}, 1, true},
      {"TransposedZeroPoint", {1, 16, 6, 6}, 24, {4, 4}, {2, 2}, {1, 1}, {1, 1}, 1, true, 128},
  };
}

class Conv : public ::testing::TestWithParam<ConvCase> {
 protected:
  void SetUp() override {
    torch::manual_seed(11);
    data_ = make_data(GetParam());
    expected_ = float_result(GetParam(), data_);
  }
  ConvData data_;
  at::Tensor expected_;
};
INSTANTIATE_TEST_SUITE_P(Shapes, Conv, ::testing::ValuesIn(cases()), [](const auto& info) { return info.param.name; });

TEST_P(Conv, CodesEqualFloatConvolutionThenQuantize) {
  const double scale = 4.0;
  const auto y = run_kernel("conv", {data_.x, pack(GetParam(), data_), scale, 100}).toTensor();
  const auto want = at::quantize_per_tensor(expected_, scale, 100, at::kQUInt8);
  ASSERT_EQ(y.sizes(), want.sizes());
  EXPECT_DOUBLE_EQ(y.q_scale(), scale);
  EXPECT_EQ(y.q_zero_point(), 100);
  EXPECT_TRUE(at::equal(y.int_repr().contiguous(), want.int_repr().contiguous()));
  EXPECT_GT(want.int_repr().to(at::kFloat).std().item<float>(), 1) << "the data do not exercise the range";
}

TEST_P(Conv, FloatsEqualFloatConvolution) {
  const auto y = run_kernel("conv_float", {data_.x, pack(GetParam(), data_)}).toTensor();
  EXPECT_TRUE(at::allclose(y.contiguous(), expected_, 1e-6, 1e-4));
}

// The zero point is even: oneDNN adds it before it rounds, which turns a tie the other way when it is odd.
TEST_P(Conv, ClampIsFused) {
  const auto y = run_kernel("conv", {data_.x, pack(GetParam(), data_, 0.0, 6.0), 0.125, 8}).toTensor();
  const auto want = at::quantize_per_tensor(expected_.clamp(0, 6), 0.125, 8, at::kQUInt8);
  EXPECT_TRUE(at::equal(y.int_repr().contiguous(), want.int_repr().contiguous()));
  EXPECT_EQ(want.int_repr().max().item<int64_t>(), 8 + 48);
  EXPECT_EQ(want.int_repr().min().item<int64_t>(), 8);
}

TEST_P(Conv, ResidualIsAddedBeforeTheClamp) {
  const auto other = at::_make_per_tensor_quantized_tensor(at::randint(0, 256, expected_.sizes(), at::kByte), 2.0, 120);
  const auto y = run_kernel("conv_add", {data_.x, other, pack(GetParam(), data_, 0.0), 4.0, 0}).toTensor();
  const auto want = at::quantize_per_tensor((expected_ + other.dequantize()).relu(), 4.0, 0, at::kQUInt8);
  EXPECT_TRUE(at::equal(y.int_repr().contiguous(), want.int_repr().contiguous()));
}

TEST_P(Conv, ResultIsQuantizedBeforeTheResidualWhenAsked) {
  const auto other = at::_make_per_tensor_quantized_tensor(at::randint(0, 256, expected_.sizes(), at::kByte), 2.0, 120);
  const auto y =
      run_kernel("conv_add", {data_.x, other, pack(GetParam(), data_, 0.0), 1.0, 128, 4.0, 0}, "middle").toTensor();
  const auto middle = at::quantize_per_tensor(expected_, 1.0, 128, at::kQUInt8).dequantize();
  const auto want = at::quantize_per_tensor((middle + other.dequantize()).relu(), 4.0, 0, at::kQUInt8);
  EXPECT_TRUE(at::equal(y.int_repr().contiguous(), want.int_repr().contiguous()));
  EXPECT_FALSE(at::equal(middle, expected_)) << "the intermediate rounding must show";
}

TEST_P(Conv, LayoutOfTheInputDoesNotMatter) {
  if (GetParam().dims() != 2) GTEST_SKIP() << "only images have two layouts";
  const auto params = pack(GetParam(), data_);
  const auto a = run_kernel("conv", {data_.x, params, 4.0, 100}).toTensor();
  const auto b = run_kernel("conv", {data_.x.contiguous(at::MemoryFormat::ChannelsLast), params, 4.0, 100}).toTensor();
  EXPECT_TRUE(at::equal(a.int_repr(), b.int_repr()));
  EXPECT_TRUE(a.is_contiguous(at::MemoryFormat::ChannelsLast));
}

TEST(ConvParams, OtherShapesAndScalesAreServedByTheSameObject) {
  torch::manual_seed(3);
  ConvCase c = {"", {1, 8, 6, 6}, 16, {3, 3}, {1, 1}, {1, 1}, {1, 1}};
  ConvData d = make_data(c);
  const auto params = pack(c, d);
  for (int64_t size = 3; size < 16; ++size) {
    const auto codes = at::randint(0, 256, {1, 8, size, size + 1}, at::kByte);
    d.x = at::_make_per_tensor_quantized_tensor(codes, size % 2 ? 0.0625 : 0.125, size);
    const auto want = at::quantize_per_tensor(float_result(c, d), 4.0, 100, at::kQUInt8);
    const auto y = run_kernel("conv", {d.x, params, 4.0, 100}).toTensor();
    ASSERT_TRUE(at::equal(y.int_repr().contiguous(), want.int_repr().contiguous())) << size;
  }
}

TEST(ConvParams, ExtremeOutputScaleSaturatesInsteadOfWrappingAround) {
  ConvCase c = {"", {1, 4, 3, 3}, 4, {3, 3}, {1, 1}, {1, 1}, {1, 1}};
  const ConvData d = make_data(c);
  const double tiny = 1e-12;
  const auto y = run_kernel("conv", {d.x, pack(c, d, 0.0), tiny, 0}).toTensor().int_repr().contiguous();
  const auto positive = float_result(c, d) > 0;
  EXPECT_TRUE(y.masked_select(positive).eq(255).all().item<bool>());
  EXPECT_TRUE(y.masked_select(positive.logical_not()).eq(0).all().item<bool>());
}

TEST(ConvParams, ThreadsShareOneObjectAndAgree) {
  ConvCase c = {"", {2, 64, 20, 20}, 128, {3, 3}, {1, 1}, {1, 1}, {1, 1}, 1, false, 7};
  const ConvData d = make_data(c);
  const auto params = pack(c, d);
  const auto want = at::quantize_per_tensor(float_result(c, d), 4.0, 100, at::kQUInt8).int_repr().contiguous();
  std::vector<std::thread> threads;
  std::atomic<int> equal{0};
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      for (int k = 0; k < 5; ++k) {
        const auto y = run_kernel("conv", {d.x, params, 4.0, 100}).toTensor();
        if (at::equal(y.int_repr().contiguous(), want)) ++equal;
      }
    });
  }
  for (auto& t : threads) t.join();
  EXPECT_EQ(equal, 20);
}

TEST(ConvParams, EmptyBatchAndMissingBatchDimension) {
  ConvCase c = {"", {1, 8, 6, 6}, 16, {3, 3}, {1, 1}, {1, 1}, {1, 1}};
  const ConvData d = make_data(c);
  const auto params = pack(c, d);
  const auto none = at::_empty_affine_quantized({0, 8, 6, 6}, at::TensorOptions(at::kQUInt8), 1.0, 0);
  EXPECT_EQ(run_kernel("conv", {none, params, 4.0, 0}).toTensor().sizes(), at::IntArrayRef({0, 16, 6, 6}));
  const auto image = run_kernel("conv", {d.x.squeeze(0), params, 4.0, 0}).toTensor();
  const auto batch = run_kernel("conv", {d.x, params, 4.0, 0}).toTensor();
  EXPECT_TRUE(at::equal(image.int_repr(), batch.squeeze(0).int_repr()));
}

TEST(ConvParams, WrongInputsAreRefusedWithTheReason) {
  ConvCase c = {"", {1, 8, 6, 6}, 16, {3, 3}, {1, 1}, {0, 0}, {1, 1}};
  const ConvData d = make_data(c);
  const auto params = pack(c, d);
  const auto message = [&](const at::Tensor& x) -> std::string {
    try {
      run_kernel("conv", {x, params, 4.0, 0});
    } catch (const c10::Error& e) {
      return e.what_without_backtrace();
    }
    return "no error";
  };
  EXPECT_NE(message(at::zeros({1, 8, 6, 6})).find("must be a quint8 tensor"), std::string::npos);
  const auto codes = [](at::IntArrayRef sizes) {
    return at::quantize_per_tensor(at::zeros(sizes), 1.0, 0, at::kQUInt8);
  };
  EXPECT_NE(message(codes({1, 7, 6, 6})).find("expects 8 channels, the input has 7"), std::string::npos);
  EXPECT_NE(message(codes({1, 8, 2, 2})).find("the kernel spans 3 values"), std::string::npos);
  EXPECT_NE(message(codes({8, 8})).find("got an input with 2 dimensions"), std::string::npos);
}

}  // namespace
}  // namespace tsquant::testing

#include <ATen/Parallel.h>
#include <gtest/gtest.h>
#include <torch/script.h>

#include <cmath>
#include <sstream>
#include <thread>
#include <tuple>

#include "kernel_call.h"
#include "kernels/isa.h"

namespace tsquant::testing {
namespace {

std::vector<ConvCase> cases() {
  return {
      {"Plain", {2, 16, 9, 11}, 64, {3, 3}, {1, 1}, {1, 1}, {1, 1}},
      {"ZeroPoint", {1, 32, 7, 7}, 96, {3, 3}, {1, 1}, {1, 1}, {1, 1}, 1, false, 128},
      {"Strided", {1, 64, 14, 14}, 128, {3, 3}, {2, 2}, {1, 1}, {1, 1}, 1, false, 3},
      {"Pointwise", {3, 20, 5, 5}, 40, {1, 1}, {1, 1}, {0, 0}, {1, 1}},
      {"PointwiseEight", {2, 8, 5, 7}, 32, {1, 1}, {1, 1}, {0, 0}, {1, 1}, 1, false, 31},
      {"PointwiseSixteen", {1, 16, 6, 5}, 56, {1, 1}, {1, 1}, {0, 0}, {1, 1}, 1, false, 128},
      {"PointwiseTwentyFour", {2, 24, 3, 7}, 33, {1, 1}, {1, 1}, {0, 0}, {1, 1}, 1, false, 255},
      {"PointwiseManyBlocks", {1, 24, 9, 4}, 144, {1, 1}, {1, 1}, {0, 0}, {1, 1}},
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
      {"TransposedDilated", {2, 6, 7, 5}, 9, {3, 2}, {2, 3}, {1, 0}, {2, 1}, 1, true, 9},
      {"TransposedGrouped", {1, 12, 5, 6}, 8, {3, 3}, {2, 1}, {1, 1}, {1, 1}, 4, true, 200},
      {"TransposedLine", {2, 5, 9}, 7, {4}, {3}, {1}, {1}, 1, true, 77},
      {"TransposedVolume", {1, 4, 3, 4, 3}, 6, {2, 3, 2}, {2, 2, 1}, {0, 1, 0}, {1, 1, 1}, 2, true, 31},
      {"OddDilatedRow", {1, 7, 9, 9}, 20, {1, 3}, {1, 1}, {0, 2}, {1, 2}, 1, false, 3},
      {"GroupsOfFour", {1, 64, 6, 6}, 64, {3, 3}, {1, 1}, {1, 1}, {1, 1}, 16, false, 50},
      {"GroupsOfTwenty", {1, 60, 5, 5}, 120, {3, 1}, {1, 2}, {1, 0}, {1, 1}, 3, false, 50},
      {"DepthwiseVolume", {1, 10, 4, 5, 6}, 20, {3, 3, 3}, {1, 2, 1}, {1, 1, 1}, {1, 1, 1}, 10, false, 99},
      {"TransposedZeroPoint", {1, 16, 6, 6}, 24, {4, 4}, {2, 2}, {1, 1}, {1, 1}, 1, true, 128},
  };
}

/// Every case on every instruction set that this processor has.
class Conv : public ::testing::TestWithParam<std::tuple<ConvCase, kernels::Isa>> {
 protected:
  void SetUp() override {
    kernels::limit_isa(std::get<1>(GetParam()));
    torch::manual_seed(11);
    data_ = make_data(conv());
    expected_ = float_result(conv(), data_);
  }
  void TearDown() override { kernels::limit_isa({}); }
  const ConvCase& conv() const { return std::get<0>(GetParam()); }

  ConvData data_;
  at::Tensor expected_;
};
INSTANTIATE_TEST_SUITE_P(
    Shapes, Conv, ::testing::Combine(::testing::ValuesIn(cases()), ::testing::ValuesIn(kernels::available_isas())),
    [](const auto& info) { return std::get<0>(info.param).name + "_" + kernels::isa_name(std::get<1>(info.param)); });

TEST_P(Conv, CodesEqualFloatConvolutionThenQuantize) {
  const double scale = 4.0;
  const auto y = run_kernel("conv", {data_.x, pack(conv(), data_), scale, 100}).toTensor();
  const auto want = at::quantize_per_tensor(expected_, scale, 100, at::kQUInt8);
  ASSERT_EQ(y.sizes(), want.sizes());
  EXPECT_DOUBLE_EQ(y.q_scale(), scale);
  EXPECT_EQ(y.q_zero_point(), 100);
  EXPECT_TRUE(at::equal(y.int_repr().contiguous(), want.int_repr().contiguous()));
  EXPECT_GT(want.int_repr().to(at::kFloat).std().item<float>(), 1) << "the data do not exercise the range";
}

TEST_P(Conv, FloatsEqualFloatConvolution) {
  const auto y = run_kernel("conv_float", {data_.x, pack(conv(), data_)}).toTensor();
  EXPECT_TRUE(at::allclose(y.contiguous(), expected_, 1e-6, 1e-4));
}

TEST_P(Conv, ClampIsFused) {
  const auto y = run_kernel("conv", {data_.x, pack(conv(), data_, 0.0, 6.0), 0.125, 7}).toTensor();
  const auto want = at::quantize_per_tensor(expected_.clamp(0, 6), 0.125, 7, at::kQUInt8);
  EXPECT_TRUE(at::equal(y.int_repr().contiguous(), want.int_repr().contiguous()));
  EXPECT_EQ(want.int_repr().max().item<int64_t>(), 7 + 48);
  EXPECT_EQ(want.int_repr().min().item<int64_t>(), 7);
}

TEST_P(Conv, ResidualIsAddedBeforeTheClamp) {
  const auto other = at::_make_per_tensor_quantized_tensor(at::randint(0, 256, expected_.sizes(), at::kByte), 2.0, 120);
  const auto y = run_kernel("conv_add", {data_.x, other, pack(conv(), data_, 0.0), 4.0, 0}).toTensor();
  const auto want = at::quantize_per_tensor((expected_ + other.dequantize()).relu(), 4.0, 0, at::kQUInt8);
  EXPECT_TRUE(at::equal(y.int_repr().contiguous(), want.int_repr().contiguous()));
}

TEST_P(Conv, ResultIsQuantizedBeforeTheResidualWhenAsked) {
  const auto other = at::_make_per_tensor_quantized_tensor(at::randint(0, 256, expected_.sizes(), at::kByte), 2.0, 120);
  const auto y =
      run_kernel("conv_add", {data_.x, other, pack(conv(), data_, 0.0), 1.0, 128, 4.0, 0}, "middle").toTensor();
  const auto middle = at::quantize_per_tensor(expected_, 1.0, 128, at::kQUInt8).dequantize();
  const auto want = at::quantize_per_tensor((middle + other.dequantize()).relu(), 4.0, 0, at::kQUInt8);
  EXPECT_TRUE(at::equal(y.int_repr().contiguous(), want.int_repr().contiguous()));
  EXPECT_FALSE(at::equal(middle, expected_)) << "the intermediate rounding must show";
}

TEST_P(Conv, TheResultBeforeTheResidualCanBeBounded) {
  const auto other = at::_make_per_tensor_quantized_tensor(at::randint(0, 256, expected_.sizes(), at::kByte), 2.0, 120);
  const auto params = pack(conv(), data_, 0.0);
  const auto y =
      run_kernel("conv_add", {data_.x, other, params, 1.0, 128, 100, 131, 4.0, 0}, "middle_clamped").toTensor();
  const auto middle = at::quantize_per_tensor(expected_.clamp(-28, 3), 1.0, 128, at::kQUInt8).dequantize();
  const auto want = at::quantize_per_tensor((middle + other.dequantize()).relu(), 4.0, 0, at::kQUInt8);
  EXPECT_TRUE(at::equal(y.int_repr().contiguous(), want.int_repr().contiguous()));
  EXPECT_GT(expected_.max().item<float>(), 3) << "the bound must show";
  // A residual that has to be broadcast is added in floats.
  const auto one = at::_make_per_tensor_quantized_tensor(at::full({1}, 121, at::kByte), 2.0, 120);
  const auto broadcast =
      run_kernel("conv_add", {data_.x, one, params, 1.0, 128, 100, 131, 4.0, 0}, "middle_clamped").toTensor();
  const auto want_broadcast = at::quantize_per_tensor((middle + 2).relu(), 4.0, 0, at::kQUInt8);
  EXPECT_TRUE(at::equal(broadcast.int_repr().contiguous(), want_broadcast.int_repr().contiguous()));
  EXPECT_THROW(run_kernel("conv_add", {data_.x, other, params, 1.0, 128, 131, 100, 4.0, 0}, "middle_clamped"),
               c10::Error);
  EXPECT_THROW(run_kernel("conv_add", {data_.x, other, params, 1.0, 128, 0, 256, 4.0, 0}, "middle_clamped"),
               c10::Error);
}

TEST_P(Conv, SignedCodesGiveTheSameValues) {
  const auto shifted = at::_make_per_tensor_quantized_tensor((data_.x.int_repr().to(at::kShort) - 128).to(at::kChar),
                                                             data_.x.q_scale(), data_.x.q_zero_point() - 128);
  const auto other =
      at::_make_per_tensor_quantized_tensor(at::randint(-128, 128, expected_.sizes(), at::kChar), 2.0, 5);
  const auto params = pack(conv(), data_, 0.0);
  const auto y = run_kernel("conv", {shifted, params, 4.0, -100}).toTensor();
  EXPECT_EQ(y.scalar_type(), at::kQInt8);
  EXPECT_EQ(y.q_zero_point(), -100);
  const auto want = at::quantize_per_tensor(expected_.relu(), 4.0, -100, at::kQInt8);
  EXPECT_TRUE(at::equal(y.int_repr().contiguous(), want.int_repr().contiguous()));
  const auto sum = run_kernel("conv_add", {shifted, other, params, 1.0, 0, 4.0, -128}, "middle").toTensor();
  const auto middle = at::quantize_per_tensor(expected_, 1.0, 0, at::kQInt8).dequantize();
  const auto want_sum = at::quantize_per_tensor((middle + other.dequantize()).relu(), 4.0, -128, at::kQInt8);
  EXPECT_TRUE(at::equal(sum.int_repr().contiguous(), want_sum.int_repr().contiguous()));
  EXPECT_TRUE(at::allclose(run_kernel("conv_float", {shifted, params}).toTensor(), expected_.relu(), 1e-6, 1e-4));
}

TEST_P(Conv, ResidualWithoutABatchDimension) {
  if (conv().input[0] != 1) GTEST_SKIP() << "several images";
  const auto other = at::_make_per_tensor_quantized_tensor(at::randint(0, 256, expected_.sizes(), at::kByte), 2.0, 120);
  const auto params = pack(conv(), data_);
  const auto want = run_kernel("conv_add", {data_.x, other, params, 4.0, 9}).toTensor().int_repr();
  const auto y = run_kernel("conv_add", {data_.x.squeeze(0), other.squeeze(0), params, 4.0, 9}).toTensor().int_repr();
  EXPECT_TRUE(at::equal(y, want.squeeze(0)));
}

TEST_P(Conv, LayoutOfTheInputDoesNotMatter) {
  if (conv().dims() != 2) GTEST_SKIP() << "only images have two layouts";
  const auto params = pack(conv(), data_);
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

/// More weights than 32-bit sums can take: 255 * 127 * 70000 > 2^31.
TEST(ConvParams, SumsThatCouldOverflowAreComputedInFloats) {
  for (const int64_t channels : {66000, 70000}) {
    const auto x = at::_make_per_tensor_quantized_tensor(at::full({1, channels, 1, 2}, 255, at::kByte), 0.5, 3);
    const auto params =
        run_kernel("conv_pack", {at::full({2, channels, 1, 1}, 127, at::kChar), at::full({1}, 0.25), at::full({2}, 8.0),
                                 std::vector<int64_t>{1, 1}, std::vector<int64_t>{0, 0}, std::vector<int64_t>{1, 1},
                                 std::vector<int64_t>{0, 0}, 1, false, c10::IValue(), c10::IValue()});
    const double want = 252 * 0.5 * 127 * 0.25 * static_cast<double>(channels) + 8;
    const auto y = run_kernel("conv_float", {x, params}).toTensor();
    EXPECT_TRUE(at::allclose(y, at::full({1, 2, 1, 2}, want), 1e-6)) << channels;
    const auto codes = run_kernel("conv", {x, params, want / 200, 7}).toTensor().int_repr();
    EXPECT_TRUE(codes.eq(207).all().item<bool>()) << channels << codes;
    const auto signed_x =
        at::_make_per_tensor_quantized_tensor(at::full({1, channels, 1, 2}, 127, at::kChar), 0.5, -125);
    EXPECT_TRUE(run_kernel("conv", {signed_x, params, want / 100, 7}).toTensor().int_repr().eq(107).all().item<bool>());
  }
}

TEST(ConvParams, OutputPaddingOfTransposedConvolutions) {
  torch::manual_seed(8);
  const ConvCase c = {"", {2, 6, 5, 4}, 10, {3, 4}, {3, 2}, {1, 0}, {1, 1}, 2, true, 90};
  const ConvData d = make_data(c);
  const std::vector<int64_t> extra = {2, 1};
  const auto params = run_kernel("conv_pack", {d.weight, d.scales, d.bias, c.stride, c.padding, c.dilation, extra, 2,
                                               true, c10::IValue(), c10::IValue()});
  const auto w =
      d.weight.to(at::kDouble) * d.scales.to(at::kDouble).reshape({2, 1, 5}).expand({2, 3, 5}).reshape({6, 5, 1, 1});
  const auto want = at::convolution(d.x.dequantize().to(at::kDouble), w, d.bias.to(at::kDouble), c.stride, c.padding,
                                    c.dilation, true, extra, 2)
                        .to(at::kFloat);
  const auto y = run_kernel("conv_float", {d.x, params}).toTensor();
  ASSERT_EQ(y.sizes(), want.sizes());
  EXPECT_TRUE(at::allclose(y, want, 1e-6, 1e-4));
}

/// Lists that a damaged file may hold; each must be refused when the object is made.
TEST(ConvParams, DamagedParametersAreRefusedWithTheReason) {
  struct Damage {
    const char* message;
    std::vector<int64_t> stride, padding, dilation, output_padding;
    int64_t groups;
  };
  const int64_t huge = int64_t{1} << 62;
  const std::vector<Damage> all = {{"the stride of a convolution must lie", {0, 1}, {0, 0}, {1, 1}, {0, 0}, 1},
                                   {"the stride of a convolution must lie", {1, -1}, {0, 0}, {1, 1}, {0, 0}, 1},
                                   {"the padding of a convolution must lie", {1, 1}, {-20, 0}, {1, 1}, {0, 0}, 1},
                                   {"the padding of a convolution must lie", {1, 1}, {0, huge}, {1, 1}, {0, 0}, 1},
                                   {"the dilation of a convolution must lie", {1, 1}, {0, 0}, {0, 1}, {0, 0}, 1},
                                   {"the dilation of a convolution must lie", {1, 1}, {0, 0}, {1, huge}, {0, 0}, 1},
                                   {"the output padding of a convolution must lie", {1, 1}, {0, 0}, {1, 1}, {0, -1}, 1},
                                   {"needs 2 numbers", {1}, {0, 0}, {1, 1}, {0, 0}, 1},
                                   {"needs 2 numbers", {1, 1}, {0, 0, 0}, {1, 1}, {0, 0}, 1},
                                   {"cannot be split into 3 groups", {1, 1}, {0, 0}, {1, 1}, {0, 0}, 3},
                                   {"cannot be split into 0 groups", {1, 1}, {0, 0}, {1, 1}, {0, 0}, 0}};
  const auto message = [](const auto& call) -> std::string {
    try {
      call();
    } catch (const c10::Error& e) {
      return e.what_without_backtrace();
    }
    return "no error";
  };
  const auto good = at::ones({4, 3, 3, 3}, at::kChar);
  for (const Damage& d : all) {
    const auto text = message([&] {
      run_kernel("conv_pack", {good, at::full({1}, 0.1), c10::IValue(), d.stride, d.padding, d.dilation,
                               d.output_padding, d.groups, false, c10::IValue(), c10::IValue()});
    });
    EXPECT_NE(text.find(d.message), std::string::npos) << text;
  }
  const std::vector<int64_t> one = {1, 1}, zero = {0, 0};
  const auto weights = [&](const at::Tensor& weight, const at::Tensor& scales) {
    return message([&] {
      run_kernel("conv_pack",
                 {weight, scales, c10::IValue(), one, zero, one, zero, 1, false, c10::IValue(), c10::IValue()});
    });
  };
  EXPECT_NE(weights(at::ones({4, 0, 3, 3}, at::kChar), at::ones({1})).find("is empty"), std::string::npos);
  EXPECT_NE(weights(at::ones({4, 3}, at::kChar), at::ones({1})).find("3 to 5 dimensions"), std::string::npos);
  EXPECT_NE(weights(good.to(at::kFloat), at::ones({1})).find("int8 codes"), std::string::npos);
  EXPECT_NE(weights(good, at::ones({3})).find("one per output channel (4)"), std::string::npos);
  EXPECT_NE(weights(good, at::zeros({4})).find("positive and finite"), std::string::npos);
  EXPECT_NE(weights(good, at::full({1}, NAN)).find("positive and finite"), std::string::npos);
  // As a damaged file makes them: sizes that the storage does not hold.
  const auto beyond = [](const at::Tensor& tensor, std::vector<int64_t> sizes, std::vector<int64_t> strides) {
    const at::Tensor copy = tensor.clone();
    copy.unsafeGetTensorImpl()->set_sizes_and_strides(sizes, strides);
    return copy;
  };
  EXPECT_NE(weights(beyond(good, {5, 3, 3, 3}, {27, 9, 3, 1}), at::ones({1})).find("is larger than its data"),
            std::string::npos);
  EXPECT_NE(weights(beyond(good, {4, 3, 3, 3}, {28, 9, 3, 1}), at::ones({1})).find("is larger than its data"),
            std::string::npos);
  EXPECT_NE(weights(good, beyond(at::ones({2}), {4}, {1})).find("is larger than its data"), std::string::npos);
}

TEST(ConvParams, SizesThatCannotBeComputedAreRefused) {
  const auto x = at::quantize_per_tensor(at::zeros({1, 3, 64, 64}), 0.1, 3, at::kQUInt8);
  const auto run = [&](std::vector<int64_t> stride, std::vector<int64_t> padding) -> std::string {
    const auto params = run_kernel(
        "conv_pack", {at::ones({4, 3, 3, 3}, at::kChar), at::full({1}, 0.1), c10::IValue(), stride, padding,
                      std::vector<int64_t>{1, 1}, std::vector<int64_t>{0, 0}, 1, false, c10::IValue(), c10::IValue()});
    try {
      run_kernel("conv", {x, params, 0.1, 0});
    } catch (const c10::Error& e) {
      return e.what_without_backtrace();
    }
    return "no error";
  };
  const int64_t large = 1 << 30;
  EXPECT_NE(run({1, 1}, {large, large}).find("pixels per image"), std::string::npos);
  EXPECT_NE(run({large, large}, {large, large}).find("too many values"), std::string::npos);
  EXPECT_EQ(run({1 << 20, 1}, {0, 0}), "no error");
}

TEST(ConvParams, ScalesAndZeroPointsOutsideTheirTypeAreRefused) {
  ConvCase c = {"", {1, 8, 6, 6}, 16, {3, 3}, {1, 1}, {0, 0}, {1, 1}};
  const ConvData d = make_data(c);
  const auto params = pack(c, d);
  const auto refused = [&](double scale, int64_t zero_point) {
    try {
      run_kernel("conv", {d.x, params, scale, zero_point});
    } catch (const c10::Error&) {
      return true;
    }
    return false;
  };
  EXPECT_TRUE(refused(0.0, 0));
  EXPECT_TRUE(refused(-1.0, 0));
  EXPECT_TRUE(refused(NAN, 0));
  EXPECT_TRUE(refused(INFINITY, 0));
  EXPECT_TRUE(refused(1.0, -1));
  EXPECT_TRUE(refused(1.0, 256));
  EXPECT_FALSE(refused(1.0, 255));
}

/// The first plans are found without a lock, later ones are replaced while other threads use them.
TEST(ConvParams, ManyShapesFromManyThreads) {
  torch::manual_seed(4);
  ConvCase c = {"", {1, 8, 6, 6}, 16, {3, 3}, {1, 1}, {1, 1}, {1, 1}};
  ConvData d = make_data(c);
  const auto params = pack(c, d);
  std::vector<at::Tensor> inputs, wants;
  for (int64_t size = 3; size < 40; ++size) {
    d.x = at::_make_per_tensor_quantized_tensor(at::randint(0, 256, {1, 8, 4, size}, at::kByte), 0.0625, 5);
    inputs.push_back(d.x);
    wants.push_back(at::quantize_per_tensor(float_result(c, d), 4.0, 100, at::kQUInt8).int_repr());
  }
  std::atomic<int> wrong{0};
  std::vector<std::thread> threads;
  for (size_t t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (size_t i = 0; i < 300; ++i) {
        const size_t k = (i * (t + 1) + t) % inputs.size();
        const auto y = run_kernel("conv", {inputs[k], params, 4.0, 100}).toTensor().int_repr();
        if (!at::equal(y.contiguous(), wants[k].contiguous())) ++wrong;
      }
    });
  }
  for (auto& t : threads) t.join();
  EXPECT_EQ(wrong, 0);
}

TEST(ConvParams, ADepthwiseVolumeWhoseFirstInputIsFlat) {
  ConvCase flat = {"", {1, 16, 1, 6, 6}, 16, {1, 3, 3}, {1, 1, 1}, {0, 1, 1}, {1, 1, 1}, 16, false, 9};
  const ConvData d = make_data(flat);
  const auto params = pack(flat, d);
  run_kernel("conv_float", {d.x, params});
  ConvCase deep = flat;
  deep.input[2] = 4;
  ConvData volume = d;
  volume.x = at::_make_per_tensor_quantized_tensor(at::randint(0, 256, deep.input, at::kByte), 0.0625, 9);
  const auto y = run_kernel("conv_float", {volume.x, params}).toTensor();
  EXPECT_TRUE(at::allclose(y.contiguous(), float_result(deep, volume), 1e-6, 1e-4));
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
  EXPECT_NE(message(at::zeros({1, 8, 6, 6})).find("must be a quint8 or qint8 tensor"), std::string::npos);
  const auto codes = [](at::IntArrayRef sizes) {
    return at::quantize_per_tensor(at::zeros(sizes), 1.0, 0, at::kQUInt8);
  };
  EXPECT_NE(message(codes({1, 7, 6, 6})).find("expects 8 channels, the input has 7"), std::string::npos);
  EXPECT_NE(message(codes({1, 8, 2, 2})).find("the kernel spans 3 values"), std::string::npos);
  EXPECT_NE(message(codes({8, 8})).find("got an input with 2 dimensions"), std::string::npos);
}

}  // namespace
}  // namespace tsquant::testing

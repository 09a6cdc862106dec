#include "evaluation/operator_work.h"

#include <gtest/gtest.h>
#include <torch/script.h>

#include <algorithm>

#include "lowering/engines/lowering_context.h"
#include "support/support.h"

namespace tsquant::testing {
namespace {

constexpr double kUnit = 2e-6;
const CostRates kRates = {"test", 0.5, 8, 3, 10, 4, 30, 5};

Products products_of(const std::string& name, const std::vector<c10::IValue>& inputs) {
  return products_of_call(name, c10::ArrayRef<const c10::IValue>(inputs.data(), inputs.size()));
}

at::Tensor codes(at::IntArrayRef sizes) { return at::quantize_per_tensor(at::rand(sizes), 1.0 / 255, 0, at::kQUInt8); }

c10::IValue packed_convolution(int64_t out, int64_t in_per_group, int64_t groups, bool transposed = false) {
  const std::vector<int64_t> ones = {1, 1}, none = {0, 0}, twos = {2, 2};
  const at::Tensor weight = transposed ? at::ones({in_per_group * groups, out / groups, 2, 2}, at::kChar)
                                       : at::ones({out, in_per_group, 3, 3}, at::kChar);
  return call_operator("tsquant::conv_pack",
                       {weight, at::ones({1}), c10::IValue(), transposed ? twos : ones, transposed ? none : ones, ones,
                        none, groups, transposed, c10::IValue(), c10::IValue()});
}

TEST(OperatorWork, PackedLayersSayHowManyProductsAValueHas) {
  const auto of = [](const c10::IValue& params) {
    const std::vector<c10::IValue> inputs = {codes({1, 8, 4, 4}), params, 1.0, 0};
    return products_of("tsquant::conv", inputs);
  };
  EXPECT_EQ(of(packed_convolution(16, 8, 1)).per_value, 72);
  EXPECT_EQ(of(packed_convolution(16, 8, 1)).weight_bytes, 16 * 72);
  EXPECT_FALSE(of(packed_convolution(16, 8, 1)).depthwise);
  EXPECT_EQ(of(packed_convolution(8, 1, 8)).per_value, 9);
  EXPECT_TRUE(of(packed_convolution(8, 1, 8)).depthwise);
  EXPECT_EQ(of(packed_convolution(16, 8, 1, true)).per_value, 8) << "one of the four taps meets a value";
  const c10::IValue linear = call_operator("tsquant::linear_pack", {at::ones({5, 24}, at::kChar), at::ones({1}),
                                                                    c10::IValue(), c10::IValue(), c10::IValue()});
  EXPECT_EQ(products_of("tsquant::linear", {codes({3, 24}), linear}).per_value, 24);
  EXPECT_EQ(products_of("tsquant::linear", {codes({3, 24}), linear}).weight_bytes, 5 * 24);
}

TEST(OperatorWork, CompressedLayersAreAsLongAsTheirInputs) {
  const std::vector<c10::IValue> inputs = {
      at::rand({3, 24}), at::zeros({5, 12}, at::kByte), at::ones({5, 1}), c10::IValue(), c10::IValue(), "int4", 24, 0};
  EXPECT_EQ(products_of("tsquant::linear_compressed", inputs).per_value, 24);
  EXPECT_EQ(products_of("tsquant::linear_compressed_dynamic", inputs).per_value, 24);
}

TEST(OperatorWork, FloatLayersAndProductsToo) {
  const auto products = [](const char* name, const at::Tensor& a, const at::Tensor& b) {
    return products_of(name, {a, b});
  };
  EXPECT_EQ(products("aten::conv2d", at::rand({1, 6, 4, 4}), at::rand({8, 6, 3, 3})).per_value, 54);
  EXPECT_TRUE(products("aten::conv2d", at::rand({1, 6, 4, 4}), at::rand({6, 1, 3, 3})).depthwise);
  EXPECT_FALSE(products("aten::conv2d", at::rand({1, 1, 4, 4}), at::rand({6, 1, 3, 3})).depthwise);
  EXPECT_EQ(products("aten::linear", at::rand({2, 7}), at::rand({3, 7})).per_value, 7);
  EXPECT_EQ(products("aten::matmul", at::rand({4, 2, 9}), at::rand({4, 9, 3})).per_value, 9);
  EXPECT_EQ(products("tsquant::matmul", at::rand({4, 2, 9}), at::rand({4, 9, 3})).per_value, 9);
  // For each of 4 columns: 7 keys, each a product of 5 and one of 4 values.
  const std::vector<c10::IValue> attention = {at::rand({2, 3, 5}), at::rand({2, 5, 7}), at::rand({2, 7, 4})};
  EXPECT_EQ(products_of("tsquant::attention", attention).per_value, 7 * (5 + 4) / 4.0);
  EXPECT_EQ(products("aten::add", at::rand({2, 7}), at::rand({2, 7})).per_value, 0);
  const OperatorWork work = work_of_call({54, false}, {at::rand({1, 8, 4, 4})});
  EXPECT_DOUBLE_EQ(work.values, 0.128);
  EXPECT_DOUBLE_EQ(work.multiply_adds, 0.128 * 54);
  EXPECT_DOUBLE_EQ(work_of_call({9, true}, {at::rand({1, 8, 4, 4})}).channel_multiply_adds, 0.128 * 9);
}

TEST(OperatorWork, EveryKindOfOperatorHasItsRate) {
  const OperatorWork dense{2, 100, 0}, channel{2, 0, 100}, plain{2, 0, 0}, both{4, 100, 100};
  const auto ms = [](const char* name, const OperatorWork& work) { return predicted_ms(name, work, kRates, kUnit); };
  EXPECT_DOUBLE_EQ(ms("aten::conv2d", dense), 100 * kUnit * 1e3);
  EXPECT_DOUBLE_EQ(ms("tsquant::conv", dense), 50 * kUnit * 1e3);
  EXPECT_DOUBLE_EQ(ms("aten::conv2d", channel), 800 * kUnit * 1e3);
  EXPECT_DOUBLE_EQ(ms("tsquant::conv", channel), 300 * kUnit * 1e3);
  EXPECT_DOUBLE_EQ(ms("tsquant::conv", both), 350 * kUnit * 1e3);
  EXPECT_DOUBLE_EQ(ms("aten::relu", plain), 20 * kUnit * 1e3);
  EXPECT_DOUBLE_EQ(ms("tsquant::add", plain), 8 * kUnit * 1e3);
  EXPECT_DOUBLE_EQ(ms("tsquant::quantize", plain), 60 * kUnit * 1e3);
  EXPECT_DOUBLE_EQ(ms("aten::dequantize", plain), 10 * kUnit * 1e3);
  for (const char* name : {"aten::view", "tsquant::linear_compressed", "quantized::conv2d"}) {
    EXPECT_LT(ms(name, plain), 0) << name;
  }
}

TEST(OperatorWork, ARowOfTheTableFitsThisMachine) {
  const CostRates& rates = rates_here();
  const bool known =
      std::any_of(cost_table().begin(), cost_table().end(), [&](const CostRates& row) { return &row == &rates; });
  EXPECT_TRUE(known);
  const c10::IValue isas = call_operator("tsquant::isas", {});
  EXPECT_EQ(isas.toListRef().front().toStringRef(), "scalar");
  const double unit = measure_unit();
  EXPECT_GT(unit, 1e-9) << "a million products per microsecond";
  EXPECT_LT(unit, 1e-4);
}

}  // namespace
}  // namespace tsquant::testing

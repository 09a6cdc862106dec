#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <limits>

#include "inc_golden.h"
#include "support/thrown_error.h"
#include "tsquant/weight_only.h"

namespace tsquant::testing {
namespace {

at::Tensor random_weight(int64_t out, int64_t in) {
  at::manual_seed(7);
  return at::randn({out, in});
}

TEST(WeightOnlyTables, AreNeuralCompressors) {
  EXPECT_EQ(kNf4.size(), 16u);
  EXPECT_EQ(kNf4[6], -0.09105003625154495);
  EXPECT_EQ(kNf4Bit, (std::vector<int64_t>{7, 1, 2, 3, 4, 5, 6, 0, -8, -7, -6, -5, -4, -3, -2, -1}));
  EXPECT_EQ(kFp4Bnb, (std::vector<double>{-12, -8, -6, -4, -3, -2, -0.0625, 0, 0.0625, 2, 3, 4, 6, 8, 12}));
  EXPECT_EQ(kFp4BnbBit, (std::vector<int64_t>{-5, -6, -3, -4, -1, -2, -7, 0, 1, 6, 7, 4, 5, 2, 3}));
  EXPECT_EQ(kFp4E2m1, (std::vector<double>{-6, -4, -3, -2, -1.5, -1, -0.0625, 0, 0.0625, 1, 1.5, 2, 3, 4, 6}));
  EXPECT_EQ(kFp4E2m1Bit, (std::vector<int64_t>{-1, -2, -3, -4, -5, -6, -7, 0, 1, 2, 3, 4, 5, 6, 7}));
  EXPECT_EQ(float_mapping().size(), 4u);
  EXPECT_EQ(int_mapping().size(), 4u);
  EXPECT_EQ(float_mapping("fp4"), float_mapping("fp4_e2m1_bnb"));
  EXPECT_EQ(int_mapping("fp4_e2m1"), kFp4E2m1Bit);
  const Error error = thrown_error([] { float_mapping("fp3"); });
  EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
  for (const auto& [name, table] : float_mapping()) EXPECT_NE(error.advice().find(name), std::string::npos);
}

TEST(Quantize4bit, ValuesAreLevelsTimesScale) {
  for (const auto& [name, levels] : float_mapping()) {
    const auto weight = random_weight(6, 40), original = weight.clone();
    const auto codes = quantize_4bit(weight.clone(), 1, name, /*return_int=*/true);
    const auto kept = quantize_4bit(weight.clone(), 1, name, false, c10::nullopt, /*double_quant=*/true);
    quantize_4bit(weight, 1, name);
    EXPECT_TRUE(equal_numbers(weight, kept.tensor * *kept.scale)) << name;
    const auto table = at::tensor(levels, at::kDouble).to(at::kFloat);
    const auto nearest = (original / *codes.scale).unsqueeze(-1).sub(table).abs().argmin(-1);
    EXPECT_TRUE(equal_numbers(kept.tensor, table.index({nearest}))) << name;
    EXPECT_TRUE(equal_numbers(codes.tensor, at::tensor(int_mapping(name)).index({nearest}))) << name;
  }
}

/// A value on a middle, both rounded to the dtype, becomes the lower level, whichever way the rounding went.
TEST(Quantize4bit, MiddlesHaveTheDtypeOfTheTensor) {
  for (const auto& [name, levels] : float_mapping()) {
    for (size_t i = 1; i < levels.size(); ++i) {
      const double middle = (levels[i - 1] + levels[i]) / 2;
      for (const auto dtype : {at::kFloat, at::kDouble, at::kBFloat16, at::kHalf}) {
        const auto row = at::tensor({middle, levels.back()}, at::kDouble).to(dtype).reshape({1, 2});
        const auto kept = quantize_4bit(row, 1, name, false, at::ones({1, 1}, dtype), /*double_quant=*/true).tensor;
        const auto expected = at::tensor({levels[i - 1], levels.back()}, at::kDouble).to(dtype).reshape({1, 2});
        EXPECT_TRUE(equal_numbers(kept, expected)) << name << " " << i << " " << dtype;
      }
    }
  }
}

TEST(Quantize4bit, TakesAScale) {
  const auto weight = random_weight(4, 16);
  const auto scale = at::full({4, 1}, 0.5F);
  const auto result = quantize_4bit(weight.clone(), 1, "fp4", true, scale);
  EXPECT_TRUE(at::equal(*result.scale, scale));
  EXPECT_TRUE(equal_numbers(result.tensor, quantize_4bit(weight * 4, 1, "fp4", true, at::full({4, 1}, 2.0F)).tensor));
  EXPECT_EQ(thrown_error([&] { quantize_4bit(weight, 1, "fp4", true, at::ones({3, 1})); }).place(), "scale");
}

TEST(Quantize4bit, ZeroRowsStayAndNanIsKept) {
  auto weight = random_weight(3, 8);
  weight[1].zero_();
  weight[2][0] = std::numeric_limits<float>::quiet_NaN();
  quantize_4bit(weight);
  EXPECT_TRUE((weight[1] == 0).all().item<bool>());
  EXPECT_TRUE(weight[2].isnan().all().item<bool>());
}

TEST(QuantTensor, WorksOnViewsInPlace) {
  const auto storage = random_weight(40, 12);
  const auto view = storage.t().narrow(1, 3, 33);  // neither contiguous nor a multiple of the group
  const auto expected = quant_tensor(view.contiguous(), 4, 8, "sym").tensor;
  const auto outside = storage.narrow(0, 36, 4).clone();
  const auto result = quant_tensor(view, 4, 8, "sym");
  EXPECT_TRUE(result.tensor.is_same(view));
  EXPECT_TRUE(equal_numbers(view, expected));
  EXPECT_TRUE(equal_numbers(storage.narrow(0, 36, 4), outside));
}

TEST(QuantTensor, EditsParametersWithGradients) {
  auto weight = random_weight(2, 8).requires_grad_();
  const auto expected = quant_tensor(weight.detach().clone()).tensor;
  quant_tensor(weight);
  EXPECT_TRUE(equal_numbers(weight.detach(), expected));
  EXPECT_TRUE(weight.requires_grad());
}

TEST(QuantTensor, CodesAndParametersGiveTheValues) {
  for (const char* scheme : {"sym", "asym"}) {
    const auto weight = random_weight(5, 50);
    const auto codes = quant_tensor(weight.clone(), 3, 16, scheme, 0.9, "int", /*return_int=*/true);
    quant_tensor(weight, 3, 16, scheme, 0.9);
    const auto wide = [](const at::Tensor& x) { return x.repeat_interleave(16, 1).narrow(1, 0, 50); };
    auto values = codes.tensor.clone();
    if (codes.zero_point) values.sub_(wide(*codes.zero_point));
    EXPECT_TRUE(equal_numbers(weight, values * wide(*codes.scale))) << scheme;
    EXPECT_EQ(codes.scale->sizes(), (std::vector<int64_t>{5, 4}));
  }
}

TEST(QuantTensor, ErrorIsHalfAStepWithinTheRange) {
  const auto weight = random_weight(8, 64), rounded = weight.clone();
  const auto scale = *quant_tensor(weight.clone(), 4, 32, "asym", 1, "int", true).scale;
  quant_tensor(rounded, 4, 32);
  const auto error = (rounded - weight).abs().reshape({8, 2, 32}).amax(2);
  EXPECT_TRUE((error <= scale * 1.0001).all().item<bool>());  // the zero point is rounded, too
  EXPECT_LT(((rounded - weight).abs().mean() / scale.mean()).item<double>(), 0.3);
}

TEST(QuantTensor, HalvesComputeInFloat32) {
  const auto weight = random_weight(4, 20).to(at::kHalf);
  for (const bool double_quant : {false, true}) {
    const auto options = double_quant ? c10::optional<DoubleQuant>(DoubleQuant{}) : c10::nullopt;
    const auto wide = weight.to(at::kFloat), narrow = weight.clone();
    quant_tensor(wide, 4, 8, "asym", 1, "int", false, false, options);
    quant_tensor(narrow, 4, 8, "asym", 1, "int", false, false, options);
    EXPECT_TRUE(equal_numbers(narrow, wide.to(at::kHalf)));
  }
}

TEST(QuantTensor, LeavesTheWeightForNoBits) {
  const auto weight = random_weight(2, 4), before = weight.clone();
  const auto result = quant_tensor(weight, 0);
  EXPECT_TRUE(equal_numbers(result.tensor, before));
  EXPECT_FALSE(result.scale.has_value());
}

TEST(QuantTensor, DoubleQuantReturnsWhatStandsForTheScales) {
  const auto weight = random_weight(6, 40);
  for (const char* scheme : {"sym", "asym"}) {
    DoubleQuant options;
    options.scheme = scheme;
    options.group_size = 7;
    const auto plain = quant_tensor(weight.clone(), 4, 16, "sym", 1, "int", true, false, options);
    options.return_int = true;
    const auto coded = quant_tensor(weight.clone(), 4, 16, "sym", 1, "int", true, false, options);
    EXPECT_EQ(coded.scale_mean.has_value(), options.scheme == "asym");
    EXPECT_EQ(coded.hyper_scale->sizes(), (std::vector<int64_t>{1, 3}));  // 18 scales
    auto scale = coded.scale->reshape({1, -1}) * coded.hyper_scale->repeat_interleave(7, 1).narrow(1, 0, 18);
    if (coded.scale_mean) scale += *coded.scale_mean;
    EXPECT_TRUE(equal_numbers(scale.reshape({6, 3}), *plain.scale));
    EXPECT_TRUE(equal_numbers(coded.tensor, plain.tensor));
  }
}

TEST(QuantTensor, RefusesWhatItCannotDo) {
  const auto place = [](const auto& call) {
    const Error error = thrown_error(call);
    EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
    EXPECT_FALSE(error.advice().empty() && error.message().find("undefined") == std::string::npos);
    return error.place();
  };
  const auto weight = random_weight(2, 8), before = weight.clone();
  EXPECT_EQ(place([] { quant_tensor(at::Tensor()); }), "weight");
  EXPECT_EQ(place([] { quant_tensor(at::ones({2, 3, 4})); }), "weight");
  EXPECT_EQ(place([] { quantize_4bit(at::empty({2, 3}, at::kMeta)); }), "tensor");
  EXPECT_EQ(place([] { quant_tensor(at::ones({2, 3}, at::kLong)); }), "weight");
  EXPECT_EQ(place([] { quant_tensor(at::ones({2, 0})); }), "weight");
  EXPECT_EQ(place([&] { quant_tensor(weight, 9); }), "bits");
  EXPECT_EQ(place([&] { quant_tensor(weight, 4, 0); }), "group_size");
  EXPECT_EQ(place([&] { quant_tensor(weight, 4, -2); }), "group_size");
  EXPECT_EQ(place([&] { quant_tensor(weight, 4, 4, "asym", 0); }), "quantile");
  EXPECT_EQ(place([&] { quant_tensor(weight, 4, 4, "asym", std::numeric_limits<double>::quiet_NaN()); }), "quantile");
  EXPECT_EQ(place([&] { qdq_weight_actor(weight, 0, "sym", 1, "nf4"); }), "bits");
  EXPECT_EQ(place([&] { qdq_weight_sym(weight, 0); }), "bits");
  EXPECT_TRUE(equal_numbers(weight, before));
  DoubleQuant options;
  options.group_size = 0;
  EXPECT_EQ(place([&] { quant_tensor(weight, 4, 4, "asym", 1, "int", false, false, options); }),
            "double_quant.group_size");
}

TEST(QuantWeightWScale, ChecksTheNumberOfScales) {
  const auto weight = random_weight(2, 8);
  EXPECT_EQ(thrown_error([&] { quant_weight_w_scale(weight, at::ones({2, 3}), c10::nullopt, 4); }).place(), "scale");
  EXPECT_EQ(thrown_error([&] { quant_weight_w_scale(weight, at::ones({2, 2}), at::ones({2, 1}), 4); }).place(), "zp");
  EXPECT_EQ(thrown_error([&] {
              quant_weight_w_scale(weight, at::ones({2, 2}), at::ones({2, 2}), 4, "nf4");
            }).place(),
            "zp");
}

TEST(QuantWeightWScale, IsNotClamped) {
  const auto weight = at::tensor({0.5F, 20.0F, -20.0F, 1.5F}).reshape({1, 4});
  const auto codes = quant_weight_w_scale(weight, at::ones({1, 2}), at::ones({1, 2}), 2);
  EXPECT_TRUE(equal_numbers(codes, at::tensor({2.0F, 21.0F, -19.0F, 2.0F}).reshape({1, 4})));
  EXPECT_FALSE(codes.is_alias_of(weight));
}

TEST(QuantWeightWScale, HalvesAreRounded) {
  const auto weight = at::tensor({0.4F, 2.5F}).reshape({1, 2}).to(at::kHalf);
  EXPECT_TRUE(quant_weight_w_scale(weight, at::ones({1, 1})).is_same(weight));
  EXPECT_TRUE(equal_numbers(weight, at::tensor({0.0F, 2.0F}).reshape({1, 2})));
}

TEST(SearchClip, ShrinksTheRangeOfOutliers) {
  auto weight = random_weight(4, 64);
  const auto loss = [&](double ratio) {
    const auto rounded = quant_tensor(weight.clone(), 3, 32, "asym", ratio).tensor;
    return (rounded - weight).pow(2).mean(at::kDouble).item<double>();
  };
  const auto before = weight.clone();
  const auto ratio = search_clip(weight, 3, 32);
  ASSERT_TRUE(ratio.has_value());
  EXPECT_TRUE(equal_numbers(weight, before));
  EXPECT_LT(*ratio, 1);
  for (int i = 0; i < 40; ++i) EXPECT_LE(loss(*ratio), loss(1 - i / 200.0) * (1 + 1e-9));
}

TEST(SearchClip, KeepsAllOfTheRangeOfZeros) { EXPECT_EQ(search_clip(at::zeros({2, 8})), 1.0); }

TEST(SearchClip, NanHasNoBest) {
  EXPECT_EQ(search_clip(at::full({2, 8}, std::numeric_limits<float>::quiet_NaN())), c10::nullopt);
}

TEST(SearchClip, ReadsTheWeightOfALayer) {
  const auto weight = random_weight(4, 32);
  const auto layer = define("def forward(self, x):\n  return x\n", {{"weight", weight}});
  EXPECT_EQ(search_clip(layer, 2, 16, "sym", "int", true), search_clip(weight, 2, 16, "sym", "int", true));
  const auto other = define("def forward(self, x):\n  return x\n");
  EXPECT_NE(thrown_error([&] { search_clip(other); }).message().find("weight"), std::string::npos);
  EXPECT_EQ(thrown_error([] { search_clip(at::Tensor()); }).place(), "weight");
}

}  // namespace
}  // namespace tsquant::testing

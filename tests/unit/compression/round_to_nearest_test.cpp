#include "compression/round_to_nearest.h"

#include <set>

#include "compression_golden.h"
#include "numerics/formats.h"
#include "tsquant/error.h"

namespace tsquant::testing {
namespace {

std::vector<float> floats(const at::Tensor& x) {
  const auto values = x.to(at::kFloat).contiguous();
  return {values.data_ptr<float>(), values.data_ptr<float>() + values.numel()};
}

TEST(RoundToNearest, GivesNncfsCodesAndScales) {
  const CompressionGolden golden("round_to_nearest");
  ASSERT_GT(golden.cases.size(), 50u);
  std::set<std::string> modes;
  int compared_values = 0;
  for (const auto& c : golden.cases) {
    const std::string key = c["key"];
    SCOPED_TRACE(key);
    modes.insert(c["mode"].get<std::string>());
    const auto array = [&](const char* name) { return golden.arrays.at(key + "/" + name); };
    auto spec = spec_of_mode(c["mode"], c["group_size"], c["axis"]);
    if (spec.format == Format::kCodebook4) spec.codebook = floats(array("codebook"));
    const auto weight = golden.arrays.at(c["matrix"]);
    const auto result = round_to_nearest(weight, spec);

    ASSERT_EQ(result.codes.sizes(), weight.sizes());
    EXPECT_TRUE(at::equal(result.qparams.scale.flatten(), array("scale").flatten()));
    const FormatInfo& info = format_info(spec.format);
    const bool codes = info.integer || spec.format == Format::kCb4 || spec.format == Format::kCodebook4;
    const auto got = codes ? result.codes.to(at::kFloat) : decode(result.codes, spec.format);
    EXPECT_EQ((got != array("q").to(at::kFloat).reshape(weight.sizes())).sum().item<int64_t>(), 0);
    if (info.integer && spec.mode == QuantizationScheme::kAsymmetric) {
      EXPECT_TRUE(at::equal(result.qparams.zero_point.flatten(), array("zero_point").flatten().to(at::kLong)));
    }
    if (info.scale == ScaleFormat::kE4M3) {
      EXPECT_EQ(result.qparams.tensor_scale.item<float>(), array("global_scale").item<float>());
    }
    const auto values = golden.arrays.find(key + "/dequantized");
    if (values == golden.arrays.end()) continue;
    ++compared_values;
    EXPECT_TRUE(at::equal(decompress(result), values->second));
  }
  EXPECT_EQ(modes.size(), 12u);
  EXPECT_GE(compared_values, 5);
}

TEST(RoundToNearest, ErrorIsAtMostOneStep) {
  at::manual_seed(1);
  const auto weight = at::randn({16, 64});
  for (const bool asymmetric : {false, true}) {
    QuantizationSpec spec;
    spec.format = Format::kInt4;
    spec.group_size = 16;
    if (asymmetric) spec.mode = QuantizationScheme::kAsymmetric;
    const auto result = round_to_nearest(weight, spec);
    const auto error = (decompress(result) - weight).abs().reshape({16, 4, 16}).amax(2);
    const auto scale = result.qparams.scale.abs();
    // The zero point is rounded too, and the other end of a symmetric range is one code short.
    EXPECT_TRUE((error <= scale * 1.0001).all().item<bool>());
    EXPECT_LE(((decompress(result) - weight).abs().mean() / scale.mean()).item<double>(), 0.3);
    EXPECT_EQ(asymmetric, result.codes.scalar_type() == at::kByte);
  }
}

TEST(RoundToNearest, ValuesOfOneSignAreWithinHalfAStep) {
  // A smoothing filter, a channel of one value, equal values: NNCF's range of these does not hold 0, and its zero
  // point, which is a code, cannot say so.
  at::manual_seed(4);
  const auto filters = at::rand({4, 9}) * 0.1 + 0.5;
  for (const auto& weight : {filters, -filters, at::full({3, 1}, -0.367), at::full({2, 8}, 0.25)}) {
    for (const Format format : {Format::kInt8, Format::kInt4}) {
      QuantizationSpec spec;
      spec.format = format;
      spec.mode = QuantizationScheme::kAsymmetric;
      spec.per_channel = true;
      const auto result = round_to_nearest(weight, spec);
      const auto step = weight.abs().amax() / (format == Format::kInt8 ? 255 : 15);
      EXPECT_TRUE(((decompress(result) - weight).abs() <= step * 0.501).all().item<bool>()) << weight;
    }
  }
}

TEST(RoundToNearest, ConstantRowsAndColumnsKeepTheirValues) {
  // Among values up to 1, whose half step is 1/255 or 1/15: what is further from 0 keeps its value within half a step
  // of its own, the rest within half of the largest step.
  at::manual_seed(6);
  for (const int64_t axis : {0, 1}) {
    auto weight = at::rand({12, 64}) * 2 - 1;
    weight.select(axis, 0).fill_(1);
    weight.select(axis, 1).fill_(-1);
    weight.select(axis, 3).fill_(0.7);
    weight.select(axis, 5).fill_(-0.2);
    weight.select(axis, 7).fill_(0.002);
    for (const Format format : {Format::kInt8, Format::kInt4}) {
      QuantizationSpec spec;
      spec.format = format;
      spec.mode = QuantizationScheme::kAsymmetric;
      spec.per_channel = true;
      spec.ch_axis = axis;
      const float levels = format == Format::kInt8 ? 255 : 15;
      const auto error = (decompress(round_to_nearest(weight, spec)) - weight).abs();
      EXPECT_LE(error.max().item<float>(), 1.001F / levels);
      EXPECT_LE(error.select(axis, 3).max().item<float>(), 0.351F / levels);
      EXPECT_LE(error.select(axis, 5).max().item<float>(), 0.101F / levels);
      EXPECT_NEAR(error.select(axis, 7).max().item<float>(), 0.002F, 1e-4F) << "NNCF's parameters";
    }
  }
}

TEST(RoundToNearest, PartsHaveTheCodesOfTheWhole) {
  // The row of constants is lost beside the wide row, as in NNCF, and would be kept where it stands alone.
  at::manual_seed(7);
  auto weight = at::randn({6, 32});
  weight[0].mul_(100);
  weight[3].fill_(0.5);
  weight[4] = weight[4].abs() + 0.25;
  for (const int64_t group_size : {0, 8}) {
    QuantizationSpec spec;
    spec.format = Format::kInt4;
    spec.mode = QuantizationScheme::kAsymmetric;
    spec.per_channel = group_size == 0;
    spec.group_size = group_size;
    const auto whole = round_to_nearest(weight, spec);
    EXPECT_FALSE(at::equal(whole.qparams.scale[3], round_to_nearest(weight[3].unsqueeze(0), spec).qparams.scale[0]));
    for (const int64_t step : {1, 2, 3, 6}) {
      PartRounding rounding(weight, spec);
      for (int64_t row = 0; row < 6; row += step) {
        const auto part = rounding.round(weight.narrow(0, row, step));
        EXPECT_TRUE(at::equal(part.codes, whole.codes.narrow(0, row, step)));
        EXPECT_TRUE(at::equal(part.qparams.scale, whole.qparams.scale.narrow(0, row, step)));
        EXPECT_TRUE(at::equal(part.qparams.zero_point, whole.qparams.zero_point.narrow(0, row, step)));
      }
    }
  }
}

TEST(RoundToNearest, ChannelsOfConvolutionsHaveTheirOwnScale) {
  at::manual_seed(2);
  const auto weight = at::randn({6, 3, 2, 2});
  QuantizationSpec spec;
  spec.mode = QuantizationScheme::kAsymmetric;
  spec.per_channel = true;
  const auto result = round_to_nearest(weight, spec);
  const auto as_matrix = round_to_nearest(weight.reshape({6, 12}), spec);
  EXPECT_TRUE(at::equal(result.codes.reshape({6, 12}), as_matrix.codes));
  EXPECT_TRUE(at::equal(result.qparams.scale, as_matrix.qparams.scale));
  spec.ch_axis = 1;
  const auto transposed = round_to_nearest(weight.transpose(0, 1), spec);
  EXPECT_TRUE(at::equal(transposed.codes.transpose(0, 1), result.codes));
  EXPECT_TRUE(at::equal(decompress(transposed).transpose(0, 1), decompress(result)));
}

TEST(RoundToNearest, HalfPrecisionWeightsAreComputedInFloat32) {
  at::manual_seed(3);
  const auto weight = at::randn({4, 32});
  QuantizationSpec spec;
  spec.format = Format::kInt4;
  spec.group_size = 8;
  for (const auto type : {at::kHalf, at::kBFloat16, at::kDouble}) {
    const auto rounded = weight.to(type);
    EXPECT_TRUE(at::equal(round_to_nearest(rounded, spec).codes, round_to_nearest(rounded.to(at::kFloat), spec).codes));
  }
}

TEST(RoundToNearest, RefusesWhatItCannotCompress) {
  const auto message_of = [](const at::Tensor& weight, const QuantizationSpec& spec) {
    try {
      round_to_nearest(weight, spec);
    } catch (const Error& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  const auto weight = at::ones({4, 30});
  QuantizationSpec spec;
  spec.format = Format::kInt4;
  spec.group_size = 16;
  EXPECT_NE(message_of(weight, spec).find("30 values along axis 1 are no whole number of groups of 16"),
            std::string::npos);
  spec.format = Format::kMxFp4;
  EXPECT_NE(message_of(weight, spec).find("set group_size to 32"), std::string::npos);
  spec = {};
  spec.narrow_range = true;
  EXPECT_NE(message_of(weight, spec).find("uses all codes of the format"), std::string::npos);
  spec = {};
  spec.per_channel = true;
  spec.ch_axis = 2;
  EXPECT_NE(message_of(weight, spec).find("ch_axis is 2, but the weight has 2 dimensions"), std::string::npos);
  spec.ch_axis = 0;
  EXPECT_NE(message_of(at::full({2, 3}, INFINITY), spec).find("not finite"), std::string::npos);
}

}  // namespace
}  // namespace tsquant::testing

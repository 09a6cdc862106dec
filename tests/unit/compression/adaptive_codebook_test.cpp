#include "compression/adaptive_codebook.h"

#include <algorithm>
#include <cmath>

#include "algorithms_golden.h"
#include "compression/round_to_nearest.h"
#include "compression/weighted_kmeans.h"
#include "numerics/formats.h"
#include "support/thrown_error.h"

namespace tsquant::testing {
namespace {

const GoldenLayer& codebook_layer() {
  static const GoldenLayer kLayer(data_file("compression/layer.pt"));
  return kLayer;
}

QuantizationSpec per_output() {
  QuantizationSpec spec;
  spec.per_channel = true;
  return spec;
}

AdaptiveCodebook codebook_with(const AdaptiveCodebookParameters& parameters, const std::vector<float>& start = {}) {
  return adaptive_codebook({{codebook_layer().weight, &codebook_layer().samples}}, per_output(), parameters, start);
}

at::Tensor values_with(const at::Tensor& weight, const std::vector<float>& levels) {
  auto spec = per_output();
  spec.format = codebook_format(levels.size());
  spec.codebook = levels;
  return decompress(round_to_nearest(weight, spec));
}

TEST(WeightedKMeans, FindsClusters) {
  WeightedKMeans kmeans(-1, 1);
  at::manual_seed(1);
  const std::vector<double> centres{-1, -0.5, 0, 0.3, 1};
  for (const double centre : centres) {
    for (int i = 0; i < 50; ++i) {
      const double noise = centre == -1 || centre == 1 ? 0 : 0.02 * at::randn({1}).item<double>();
      kmeans.add(centre + noise, 1);
    }
  }
  const auto found = kmeans.run(5);
  ASSERT_EQ(found.back().size(), 5u);
  for (size_t i = 0; i < 5; ++i) EXPECT_NEAR(found.back()[i], centres[i], 0.02);
  EXPECT_EQ(found.back()[0], -1);
  EXPECT_EQ(found.back()[2], 0);
  EXPECT_EQ(found.back()[4], 1);
}

TEST(WeightedKMeans, FollowsTheWeights) {
  WeightedKMeans even(0, 1), heavy(0, 1);
  for (int i = 0; i <= 1000; ++i) {
    even.add(i / 1000.0, 1);
    heavy.add(i / 1000.0, i > 800 ? 100 : 1);
  }
  const auto count_above = [](const std::vector<double>& centres) {
    return std::count_if(centres.begin(), centres.end(), [](double c) { return c > 0.8; });
  };
  EXPECT_EQ(count_above(even.run(8).back()), 2);
  EXPECT_GE(count_above(heavy.run(8).back()), 5);
  for (const auto& centres : heavy.run(8)) EXPECT_TRUE(std::is_sorted(centres.begin(), centres.end()));
}

TEST(WeightedKMeans, StandsValuesThatAreAllEqual) {
  WeightedKMeans kmeans(0, 0);
  kmeans.add(0, 1);
  const auto found = kmeans.run(4);
  for (const double centre : found.back()) EXPECT_EQ(centre, 0);
}

TEST(AdaptiveCodebook, IsBetterThanWhatItStartsWith) {
  for (const auto& golden : algorithms_goldens()) {
    for (const auto& c : golden.cases("sensitivity")) {
      const auto& layer = golden.layer(c);
      for (const int64_t group_size : {0, 32}) {
        auto spec = per_output();
        spec.group_size = group_size;
        const auto result = adaptive_codebook({{layer.weight, &layer.samples}}, spec);
        ASSERT_EQ(result.errors.size(), 1u);
        EXPECT_LT(result.errors[0].after, 0.95 * result.errors[0].before);
        EXPECT_TRUE(std::adjacent_find(result.levels.begin(), result.levels.end(), std::greater_equal<float>()) ==
                    result.levels.end());
        EXPECT_LE(result.levels.size(), 16u);
        EXPECT_NE(std::find(result.levels.begin(), result.levels.end(), 0.0F), result.levels.end());
      }
    }
  }
}

TEST(AdaptiveCodebook, ReportsTheErrorOfTheLayer) {
  const auto& layer = codebook_layer();
  const auto result = codebook_with({});
  const auto x = layer.samples.inputs(128);
  EXPECT_DOUBLE_EQ(result.errors[0].after, error_by_inputs(layer.weight, values_with(layer.weight, result.levels), x));
  auto cb4 = per_output();
  cb4.format = Format::kCb4;
  EXPECT_DOUBLE_EQ(result.errors[0].before,
                   error_by_inputs(layer.weight, decompress(round_to_nearest(layer.weight, cb4)), x));
}

TEST(AdaptiveCodebook, EveryParameterHasItsEffect) {
  const auto result = codebook_with({});
  AdaptiveCodebookParameters parameters;
  for (const int64_t count : {2, 3, 8}) {
    parameters.num_elements = count;
    const auto fewer = codebook_with(parameters);
    EXPECT_LE(static_cast<int64_t>(fewer.levels.size()), count);
    EXPECT_GT(fewer.errors[0].after, result.errors[0].after);
  }
  const auto is_rounded = [](const std::vector<float>& levels, Format type) {
    const auto x = at::tensor(levels);
    return at::equal(decode(encode(x, type), type), x);
  };
  parameters = {};
  EXPECT_TRUE(is_rounded(result.levels, Format::kF8E4M3));
  EXPECT_FALSE(is_rounded(result.levels, Format::kF8E5M2));
  parameters.value_type = Format::kF8E5M2;
  EXPECT_TRUE(is_rounded(codebook_with(parameters).levels, Format::kF8E5M2));
}

TEST(AdaptiveCodebook, TriesTheGivenCodebookAndTheIntegers) {
  at::manual_seed(1);
  AdaptiveCodebookParameters parameters;
  parameters.num_elements = 4;
  // Weights that these levels hold exactly, and k-means would not: some are rare.
  const std::vector<float> given{-1, -0.875, 0.25, 0.5};
  const auto index = (at::rand({8, 64}) * 4).to(at::kLong).clamp_max(3);
  auto weight = at::tensor(given).index_select(0, index.flatten()).reshape({8, 64});
  weight.select(1, 0).fill_(-1);
  LayerSamples samples;
  samples.add(at::randn({4, 64}));
  const auto result = adaptive_codebook({{weight, &samples}}, per_output(), parameters, given);
  EXPECT_EQ(result.levels, given);
  EXPECT_EQ(result.errors[0].after, 0);

  auto integers = at::randint(-2, 2, {8, 64}).to(at::kFloat);
  integers.select(1, 0).fill_(-2);
  EXPECT_EQ(adaptive_codebook({{integers, &samples}}, per_output(), parameters, given).levels,
            (std::vector<float>{-2, -1, 0, 1}));
}

TEST(AdaptiveCodebook, OneForSeveralLayersIsACompromise) {
  const auto& layer = codebook_layer();
  at::manual_seed(2);
  const auto other = at::randn({32, 128}).pow(3);  // long tails
  LayerSamples samples;
  for (int i = 0; i < 8; ++i) samples.add(at::randn({4, 128}));
  const CodebookLayer first{layer.weight, &layer.samples}, second{other, &samples};
  const auto both = adaptive_codebook({first, second}, per_output());
  ASSERT_EQ(both.errors.size(), 2u);
  const auto alone = adaptive_codebook({second}, per_output());
  EXPECT_NE(both.levels, alone.levels);
  const auto loss = [&](const std::vector<float>& levels) {
    double sum = 0;
    for (const auto& part : {first, second}) {
      const auto x = part.samples->inputs(128);
      const auto difference = at::mm(values_with(part.weight, levels) - part.weight, x);
      sum += (x.abs().mean() * difference.abs().mean()).item<double>();
    }
    return sum;
  };
  EXPECT_LT(loss(both.levels), loss({std::begin(kCb4Levels), std::end(kCb4Levels)}));
  EXPECT_LT(loss(both.levels), loss(alone.levels));
}

TEST(AdaptiveCodebook, IsSharedByLayersOfTheSameNameInOtherBlocks) {
  const std::vector<std::string> names{"layers.0.up.weight", "layers.0.down.weight", "layers.1.up.weight",
                                       "layers.12.down.weight", "head.weight"};
  using Groups = std::vector<std::vector<size_t>>;
  AdaptiveCodebookParameters parameters;
  EXPECT_EQ(codebook_groups(names, parameters), (Groups{{0}, {1}, {2}, {3}, {4}}));
  parameters.across_blocks = true;
  EXPECT_EQ(codebook_groups(names, parameters), (Groups{{0, 2}, {1, 3}, {4}}));
}

TEST(AdaptiveCodebook, RefusesWrongArguments) {
  const auto code = [](const AdaptiveCodebookParameters& parameters, const std::vector<float>& start) {
    return thrown_error([&] { codebook_with(parameters, start); }).code();
  };
  AdaptiveCodebookParameters parameters;
  parameters.num_elements = 1;
  EXPECT_EQ(code(parameters, {}), ErrorCode::kInvalidArgument);
  parameters.num_elements = 17;
  EXPECT_EQ(code(parameters, {}), ErrorCode::kInvalidArgument);
  parameters = {};
  parameters.value_type = Format::kInt8;
  EXPECT_EQ(code(parameters, {}), ErrorCode::kInvalidArgument);
  EXPECT_EQ(code({}, {-1, 0, 1}), ErrorCode::kInvalidArgument);
  parameters = {};
  parameters.num_elements = 3;
  EXPECT_EQ(code(parameters, {1, 0, -1}), ErrorCode::kInvalidArgument);
  EXPECT_EQ(thrown_error([] { adaptive_codebook({}, per_output()); }).code(), ErrorCode::kInvalidArgument);
  const LayerSamples none;
  EXPECT_EQ(thrown_error([&] {
              adaptive_codebook({{codebook_layer().weight, &none}}, per_output());
            }).code(),
            ErrorCode::kCalibration);
}

}  // namespace
}  // namespace tsquant::testing

#include "compression/low_rank.h"

#include <gtest/gtest.h>
#include <torch/script.h>

#include <cmath>

#include "algorithms_golden.h"
#include "compression/output_error.h"
#include "compression/principal_components.h"
#include "compression/round_to_nearest.h"
#include "correlated_layer.h"
#include "support/thrown_error.h"

namespace tsquant::testing {
namespace {

LowRankOptions exact(int64_t rank) {
  LowRankOptions options;
  options.rank = rank;
  options.int8_adapters = false;
  return options;
}

/// The energy that the best correction of this rank leaves, relative to that of the outputs: from all singular values.
double best_possible(const CorrelatedLayer& layer, const at::Tensor& values, int64_t rank) {
  const auto h = layer.hessian.to(at::kDouble);
  const auto [eigenvalues, vectors] = at::linalg_eigh(h);
  const auto root = vectors * eigenvalues.clamp_min(0).sqrt();
  const auto singular = std::get<1>(at::linalg_svd(at::mm((layer.weight - values).to(at::kDouble), root)));
  const auto left = singular.narrow(0, rank, singular.numel() - rank).square().sum().item<double>();
  return left / layer.objective(at::zeros_like(layer.weight));
}

TEST(LowRank, IsTheBestOfItsRankForAnyShape) {
  for (const auto& [outputs, inputs] : std::vector<std::pair<int64_t, int64_t>>{{24, 48}, {48, 24}}) {
    const CorrelatedLayer layer(outputs, inputs);
    const auto compressed = round_to_nearest(layer.weight, group_spec(Format::kInt2, 24));
    const auto values = decompress(compressed);
    for (const int64_t rank : {1, 5, 20}) {
      const auto result = correct_low_rank(layer.weight, compressed, layer.hessian, exact(rank));
      EXPECT_EQ(result.a.values.sizes(), at::IntArrayRef({rank, inputs}));
      EXPECT_EQ(result.b.values.sizes(), at::IntArrayRef({outputs, rank}));
      const double best = best_possible(layer, values, rank);
      EXPECT_NEAR(result.error_after, best, 1e-4 * best + 1e-7);
      EXPECT_NEAR(result.error_before, relative_output_error(layer.weight, values, layer.hessian), 1e-7);
      const auto corrected = values + at::mm(result.b.values, result.a.values);
      EXPECT_NEAR(result.error_after, relative_output_error(layer.weight, corrected, layer.hessian), 1e-7);
      EXPECT_TRUE(same_bits(result.weight, compressed));
      EXPECT_FALSE(result.a.codes.has_value());
    }
  }
}

TEST(LowRank, NeedsNoDampingWhereTheHessianIsSingular) {
  for (const auto& [outputs, inputs] : std::vector<std::pair<int64_t, int64_t>>{{12, 24}, {24, 12}}) {
    const CorrelatedLayer layer(outputs, inputs, /*count=*/5);
    const auto compressed = round_to_nearest(layer.weight, group_spec(Format::kInt2, 12));
    const auto result = correct_low_rank(layer.weight, compressed, layer.hessian, exact(5));
    EXPECT_TRUE(at::isfinite(result.a.values).all().item<bool>());
    EXPECT_LT(result.error_after, 1e-5 * result.error_before);
  }
}

TEST(LowRank, IsNeverWorseThanNncfsAlternatingFit) {
  int compared = 0;
  for (const AlgorithmsGolden& golden : algorithms_goldens()) {
    for (const auto& result : golden.cases("lora_correction")) {
      SCOPED_TRACE(result["key"].get<std::string>());
      const GoldenLayer& layer = golden.layer(result);
      InputMoments moments;
      moments.add(layer.rows());
      const auto hessian = moments.hessian();
      const int64_t group_size = result["group_size"];
      const auto compressed = round_to_nearest(layer.weight, spec_of_mode(result["mode"], group_size, 1));
      const auto values = decompress(compressed);
      const auto fit = at::mm(golden.array(result, "lora_B"), golden.array(result, "lora_A"));
      const double nncf = relative_output_error(layer.weight, values + fit, hessian);
      LowRankOptions options;
      EXPECT_LT(correct_low_rank(layer.weight, compressed, hessian, options).error_after, nncf);
      options.int8_adapters = false;
      EXPECT_LT(correct_low_rank(layer.weight, compressed, hessian, options).error_after, nncf);
      ++compared;
    }
  }
  EXPECT_GT(compared, 10);
}

TEST(LowRank, Int8AdaptersCostLittle) {
  const CorrelatedLayer layer(24, 48);
  const auto compressed = round_to_nearest(layer.weight, group_spec(Format::kInt2, 24));
  const auto rounded = correct_low_rank(layer.weight, compressed, layer.hessian);
  ASSERT_TRUE(rounded.a.codes.has_value() && rounded.b.codes.has_value());
  EXPECT_EQ(rounded.a.codes->codes.scalar_type(), at::kByte);
  EXPECT_EQ(rounded.b.codes->qparams.scale.numel(), 24);
  EXPECT_TRUE(at::equal(decompress(*rounded.a.codes), rounded.a.values));
  const auto full = correct_low_rank(layer.weight, compressed, layer.hessian, exact(8));
  EXPECT_GT(rounded.error_after, full.error_after);
  EXPECT_LT(rounded.error_after, 1.02 * full.error_after);
}

TEST(LowRank, AlternatingLowersTheError) {
  const CorrelatedLayer layer(24, 48);
  const auto compressed = round_to_nearest(layer.weight, group_spec(Format::kInt2, 24));
  auto options = exact(4);
  const auto once = correct_low_rank(layer.weight, compressed, layer.hessian, options);
  options.alternate = true;
  const auto twice = correct_low_rank(layer.weight, compressed, layer.hessian, options);
  EXPECT_TRUE(twice.alternated);
  EXPECT_FALSE(at::equal(twice.weight.codes, compressed.codes));
  EXPECT_EQ(twice.error_before, once.error_before);
  EXPECT_LT(twice.error_after, 0.9 * once.error_after);
  const auto corrected = decompress(twice.weight) + at::mm(twice.b.values, twice.a.values);
  EXPECT_NEAR(twice.error_after, relative_output_error(layer.weight, corrected, layer.hessian), 1e-7);
  options.descent.sweeps = 5;
  EXPECT_LT(correct_low_rank(layer.weight, compressed, layer.hessian, options).error_after, twice.error_after);
  // Nothing to gain: what was given is kept.
  const auto kept = correct_low_rank(layer.weight, compressed, at::zeros({48, 48}), options);
  EXPECT_FALSE(kept.alternated);
  EXPECT_TRUE(same_bits(kept.weight, compressed));
}

TEST(LowRank, LargeRanksCountAsTheWholeMatrixAndThreadsDoNotMatter) {
  const CorrelatedLayer layer(20, 40);
  const auto compressed = round_to_nearest(layer.weight, group_spec(Format::kInt2, 20));
  const auto all = correct_low_rank(layer.weight, compressed, layer.hessian, exact(1000));
  EXPECT_EQ(all.a.values.size(0), 20);
  EXPECT_LT(all.error_after, 1e-8);
  const CorrelatedLayer many(300, 40, 200);
  const auto start = round_to_nearest(many.weight, group_spec(Format::kInt2, 20));
  const auto result_on = [&](int threads) {
    return on_threads(threads, [&] { return correct_low_rank(many.weight, start, many.hessian); });
  };
  const auto one = result_on(1), three = result_on(3);
  EXPECT_TRUE(at::equal(one.a.values, three.a.values));
  EXPECT_TRUE(at::equal(one.b.values, three.b.values));
  EXPECT_EQ(thrown_error([&] { correct_low_rank(many.weight, start, many.hessian, exact(0)); }).code(),
            ErrorCode::kInvalidArgument);
}

TEST(PrincipalComponents, AreTheLargestEigenvectors) {
  at::manual_seed(1);
  const auto x = at::randn({80, 60}, at::kDouble) / at::arange(1, 61, at::kDouble).sqrt();
  const auto matrix = at::mm(x.t(), x);
  const auto values = std::get<0>(at::linalg_eigh(matrix)).flip({0});
  for (const int64_t count : {1, 7, 60}) {
    const auto vectors = principal_components(matrix, count);
    EXPECT_TRUE(at::allclose(at::mm(vectors.t(), vectors), at::eye(count, at::kDouble), 1e-9, 1e-9));
    const auto found = at::mm(vectors.t(), at::mm(matrix, vectors));
    EXPECT_NEAR(found.trace().item<double>(), values.narrow(0, 0, count).sum().item<double>(),
                1e-6 * values.sum().item<double>());
    EXPECT_TRUE(at::allclose(found.diagonal()[0], values[0], 1e-6));
  }
}

}  // namespace
}  // namespace tsquant::testing

#include "compression/gptq.h"

#include <ATen/Parallel.h>

#include <cmath>

#include "algorithm_specs.h"
#include "algorithms_golden.h"
#include "compression/hessian.h"
#include "compression/round_to_nearest.h"
#include "support/thrown_error.h"

namespace tsquant::testing {
namespace {

const GoldenLayer& gptq_layer() {
  static const GoldenLayer kLayer(data_file("compression/layer.pt"));
  return kLayer;
}

at::Tensor layer_hessian() {
  static const at::Tensor kHessian = hessian_of(gptq_layer().inputs, 128);
  return kHessian;
}

/// The same values but for a few that lay in the middle between two codes, or a smaller error.
void expect_as_good(const GptqWeight& result, const at::Tensor& weight, const at::Tensor& wanted,
                    const at::Tensor& hessian) {
  const auto differing = (decompress(result.weight) - wanted).abs() > 1e-5 * wanted.abs().max();
  if (differing.sum().item<int64_t>() * 1000 <= wanted.numel()) return;
  EXPECT_LE(result.error.after, error_by_hessian(weight, wanted, hessian) * 1.000001);
}

// Heads of language models are worked on in parts.
TEST(Gptq, OutputsDoNotDependOnEachOther) {
  at::manual_seed(3);
  const auto weight = at::randn({4100, 32}), inputs = at::randn({1, 64, 32});
  const auto spec = spec_of_mode("int4_sym", 16, 1);
  const auto hessian = hessian_of({inputs}, 128);
  const auto all = gptq(weight, spec, hessian, {}), last = gptq(weight.narrow(0, 4090, 10), spec, hessian, {});
  EXPECT_TRUE(at::equal(all.weight.codes.narrow(0, 4090, 10), last.weight.codes));
  EXPECT_TRUE(at::equal(all.weight.qparams.scale.narrow(0, 4090, 10), last.weight.qparams.scale));
  EXPECT_NEAR(all.error.after, error_by_hessian(weight, decompress(all.weight), hessian), 1e-9);
  EXPECT_LT(all.error.after, all.error.before);
}

TEST(Gptq, GivesNncfsWeights) {
  for (const auto& golden : algorithms_goldens()) {
    const auto cases = golden.cases("gptq");
    EXPECT_GE(cases.size(), 9u);
    int equal = 0;
    for (const auto& c : cases) {
      SCOPED_TRACE(c["key"].get<std::string>());
      AdvancedGPTQParameters parameters;
      parameters.damp_percent = c["params"]["damp_percent"];
      parameters.block_size = c["params"]["block_size"];
      const auto& layer = golden.layer(c);
      const auto spec = spec_of_mode(c["mode"], c["group_size"], 1);
      const auto hessian = hessian_of(layer.inputs, 128);
      const auto result = c["scale_estimation"].get<bool>()
                              ? gptq_with_scale_estimation(layer.weight, spec, hessian, layer.samples, parameters,
                                                           scale_estimation_in_gptq({}))
                              : gptq(layer.weight, spec, hessian, parameters);
      const auto wanted = golden.array(c, "quantized_dequantized_weight");
      expect_as_good(result, layer.weight, wanted, hessian);
      EXPECT_LT(result.error.after, result.error.before);
      EXPECT_EQ(result.damp_percent, 0.1);
      if (relative_difference(result.weight.qparams.scale, golden.array(c, "scale")) < 1e-6) ++equal;
    }
    EXPECT_GE(equal, static_cast<int>(cases.size()) * 3 / 4);
  }
}

TEST(Gptq, LowersTheErrorInEveryFormat) {
  const auto& layer = gptq_layer();
  const auto hessian = layer_hessian();
  for (const auto& spec : low_bit_specs()) {
    SCOPED_TRACE(to_string(spec.format));
    const auto result = gptq(layer.weight, spec, hessian);
    EXPECT_LT(result.error.after, result.error.before);
    EXPECT_DOUBLE_EQ(result.error.after, error_by_hessian(layer.weight, decompress(result.weight), hessian));
    EXPECT_DOUBLE_EQ(result.error.before,
                     error_by_hessian(layer.weight, decompress(round_to_nearest(layer.weight, spec)), hessian));
    EXPECT_EQ(result.weight.codes.scalar_type(), result.weight.qparams.dtype);
    const auto estimated =
        gptq_with_scale_estimation(layer.weight, spec, hessian, layer.samples, {}, scale_estimation_in_gptq({}));
    EXPECT_LT(estimated.error.after, result.error.after);
  }
}

/// One column after the other, with all columns behind it brought up to date at once: what GPTQ is without blocks.
at::Tensor column_by_column(const at::Tensor& weight, const at::Tensor& hessian, const QParams& q) {
  auto damped = hessian.clone();
  damped.diagonal().add_(0.1 * hessian.diagonal().mean());
  const auto upper = at::linalg_cholesky(at::linalg_inv(damped), /*upper=*/true);
  auto w = weight.to(at::kDouble);
  auto result = at::empty_like(weight);
  for (int64_t j = 0; j < w.size(1); ++j) {
    result.select(1, j).copy_(dequantize(quantize(w.to(at::kFloat), q), q).select(1, j));
    const auto error = (w.select(1, j) - result.select(1, j).to(at::kDouble)) / upper[j][j];
    w -= at::outer(error, upper[j]);
  }
  return result;
}

TEST(Gptq, IsGptqWhateverTheBlocks) {
  const auto& layer = gptq_layer();
  // One scale per output comes from the weights as they are given, so that blocks cannot change it.
  QuantizationSpec spec;
  spec.format = Format::kInt3;
  spec.mode = QuantizationScheme::kAsymmetric;
  spec.per_channel = true;
  const auto wanted = column_by_column(layer.weight, layer_hessian(), round_to_nearest(layer.weight, spec).qparams);
  for (const int64_t block_size : {1, 7, 32, 1000}) {
    AdvancedGPTQParameters parameters;
    parameters.block_size = block_size;
    const auto result = gptq(layer.weight, spec, layer_hessian(), parameters);
    EXPECT_TRUE(at::allclose(decompress(result.weight), wanted, 1e-6, 1e-6)) << block_size;
  }
}

TEST(Gptq, EveryParameterHasItsEffect) {
  const auto& layer = gptq_layer();
  const auto values_with = [&](const auto& change) {
    AdvancedGPTQParameters parameters;
    change(parameters);
    return decompress(
        gptq(layer.weight, int4_groups(32), hessian_of(layer.inputs, parameters.subset_size), parameters).weight);
  };
  const auto values = values_with([](auto&) {});
  EXPECT_FALSE(at::equal(values_with([](auto& p) { p.damp_percent = 1; }), values));
  // Groups see the errors of the columns before them, as far as these belong to other blocks.
  EXPECT_FALSE(at::equal(values_with([](auto& p) { p.block_size = 32; }), values));
  EXPECT_FALSE(at::equal(values_with([](auto& p) { p.subset_size = 2; }), values));
}

TEST(Gptq, ScaleEstimationTakesTheUsersParametersOnceTheyAreSet) {
  AdvancedScaleEstimationParameters given;
  const auto nncf = scale_estimation_in_gptq(given);
  EXPECT_EQ(nncf.subset_size, 32);
  EXPECT_EQ(nncf.initial_steps, 5);
  EXPECT_EQ(nncf.scale_steps, 10);
  EXPECT_EQ(nncf.weight_penalty, -1);
  given.weight_penalty = 2;
  EXPECT_EQ(scale_estimation_in_gptq(given).subset_size, 64);
  EXPECT_EQ(scale_estimation_in_gptq(given).scale_steps, 5);
  EXPECT_EQ(scale_estimation_in_gptq(given).weight_penalty, 2);
  const auto& layer = gptq_layer();
  const auto error_with = [&](const AdvancedScaleEstimationParameters& estimation) {
    return gptq_with_scale_estimation(layer.weight, int4_groups(32), layer_hessian(), layer.samples, {}, estimation)
        .error.after;
  };
  const double plain = gptq(layer.weight, int4_groups(32), layer_hessian()).error.after;
  given = {};
  given.initial_steps = given.scale_steps = 0;
  EXPECT_EQ(error_with(given), plain);
  EXPECT_LT(error_with(nncf), plain);
}

TEST(Gptq, InputsThatAreAlwaysZeroGetTheCodeOfZero) {
  const auto& layer = gptq_layer();
  auto hessian = layer_hessian().clone();
  for (const int64_t dead : {0, 40, 127}) {
    hessian.select(0, dead).zero_();
    hessian.select(1, dead).zero_();
  }
  const auto result = gptq(layer.weight, int4_groups(32), hessian);
  const auto values = decompress(result.weight);
  for (const int64_t dead : {0, 40, 127}) EXPECT_EQ(values.select(1, dead).abs().max().item<float>(), 0);
  EXPECT_GT(values.select(1, 1).abs().max().item<float>(), 0);
  EXPECT_LT(result.error.after, result.error.before);
}

TEST(Gptq, DampsMoreWhenTheHessianIsNotPositiveDefinite) {
  const auto& layer = gptq_layer();
  // No sum of squares: an eigenvalue of -3 % of the mean.
  auto hessian = layer_hessian().clone();
  const double mean = hessian.diagonal().mean().item<double>();
  const auto direction = at::ones({128}, at::kDouble) / std::sqrt(128.0);
  const double along = at::dot(direction, at::mv(hessian, direction)).item<double>();
  hessian -= at::outer(direction, direction) * (along + 0.03 * mean);
  AdvancedGPTQParameters parameters;
  parameters.damp_percent = 0.001;
  const auto result = gptq(layer.weight, int4_groups(32), hessian, parameters);
  EXPECT_GT(result.damp_percent, 0.005);
  EXPECT_TRUE(at::isfinite(decompress(result.weight)).all().item<bool>());
  EXPECT_EQ(gptq(layer.weight, int4_groups(32), layer_hessian(), parameters).damp_percent, 0.001);
  const auto error = thrown_error([&] { gptq(layer.weight, int4_groups(32), -layer_hessian()); });
  EXPECT_EQ(error.code(), ErrorCode::kCalibration);
}

TEST(Gptq, KnowsEveryAxisAndNumberOfThreads) {
  const auto& layer = gptq_layer();
  auto spec = int4_groups(32);
  const auto along = gptq(layer.weight, spec, layer_hessian());
  spec.group_axis = 0;
  const int threads = at::get_num_threads();
  at::set_num_threads(threads == 1 ? 2 : 1);
  const auto across = gptq(layer.weight.t(), spec, layer_hessian());
  at::set_num_threads(threads);
  EXPECT_TRUE(at::equal(along.weight.codes, across.weight.codes.t()));
  EXPECT_TRUE(at::equal(decompress(along.weight), decompress(across.weight).t()));
}

TEST(Gptq, RefusesWrongArguments) {
  const auto& layer = gptq_layer();
  const auto code = [&](const at::Tensor& hessian, double damp_percent, int64_t block_size) {
    AdvancedGPTQParameters parameters;
    parameters.damp_percent = damp_percent;
    parameters.block_size = block_size;
    return thrown_error([&] { gptq(layer.weight, int4_groups(32), hessian, parameters); }).code();
  };
  EXPECT_EQ(code(layer_hessian(), 0, 128), ErrorCode::kInvalidArgument);
  EXPECT_EQ(code(layer_hessian(), NAN, 128), ErrorCode::kInvalidArgument);
  EXPECT_EQ(code(layer_hessian(), 0.1, 0), ErrorCode::kInvalidArgument);
  EXPECT_EQ(code(at::eye(64), 0.1, 128), ErrorCode::kInvalidArgument);
  EXPECT_EQ(code(at::ones({128, 64}), 0.1, 128), ErrorCode::kInvalidArgument);
  EXPECT_EQ(code(at::full({128, 128}, NAN), 0.1, 128), ErrorCode::kCalibration);
  const LayerSamples narrow(at::ones({1, 64}), {1});
  EXPECT_EQ(thrown_error([&] {
              gptq_with_scale_estimation(layer.weight, int4_groups(32), layer_hessian(), narrow, {}, {});
            }).code(),
            ErrorCode::kInvalidArgument);
}

}  // namespace
}  // namespace tsquant::testing

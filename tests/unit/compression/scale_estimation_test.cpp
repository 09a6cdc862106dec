#include "compression/scale_estimation.h"

#include <ATen/Parallel.h>

#include <cmath>

#include "algorithm_specs.h"
#include "algorithms_golden.h"
#include "compression/round_to_nearest.h"
#include "support/thrown_error.h"

namespace tsquant::testing {
namespace {

const GoldenLayer& small_layer() {
  static const GoldenLayer kLayer(data_file("compression/layer.pt"));
  return kLayer;
}

TEST(ScaleEstimation, GivesNncfsScales) {
  for (const auto& golden : algorithms_goldens()) {
    const auto cases = golden.cases("scale_estimation");
    EXPECT_GE(cases.size(), 14u);
    for (const auto& c : cases) {
      SCOPED_TRACE(c["key"].get<std::string>());
      const auto& p = c["params"];
      AdvancedScaleEstimationParameters parameters;
      parameters.subset_size = p["subset_size"];
      parameters.initial_steps = p["initial_steps"];
      parameters.scale_steps = p["scale_steps"];
      parameters.weight_penalty = p["weight_penalty"];
      const auto& layer = golden.layer(c);
      const auto spec = spec_of_mode(c["mode"], c["group_size"], 1);
      const auto result = estimate_scales(layer.weight, spec, layer.samples, parameters);
      EXPECT_LT(relative_difference(result.weight.qparams.scale, golden.array(c, "scale")), 1e-6);
      if (c["arrays"].contains("zero_point")) {
        EXPECT_TRUE(at::equal(result.weight.qparams.zero_point.flatten(),
                              golden.array(c, "zero_point").flatten().to(at::kLong)));
      }
      EXPECT_LT(result.error.after, 0.95 * result.error.before);
    }
  }
}

TEST(ScaleEstimation, LowersTheErrorInEveryFormat) {
  const auto& layer = small_layer();
  for (const auto& spec : low_bit_specs()) {
    SCOPED_TRACE(to_string(spec.format));
    const auto result = estimate_scales(layer.weight, spec, layer.samples);
    const auto x = layer.samples.inputs(64);
    EXPECT_LT(result.error.after, result.error.before);
    EXPECT_DOUBLE_EQ(result.error.after, error_by_inputs(layer.weight, decompress(result.weight), x));
    EXPECT_DOUBLE_EQ(result.error.before,
                     error_by_inputs(layer.weight, decompress(round_to_nearest(layer.weight, spec)), x));
    const QParams& q = result.weight.qparams;
    EXPECT_TRUE(at::equal(result.weight.codes, quantize(layer.weight, q)));
    if (format_info(spec.format).scale == ScaleFormat::kPowerOfTwo) {
      EXPECT_TRUE(at::equal(at::exp2(at::round(at::log2(q.scale))), q.scale));
    }
  }
}

/// Error after estimation with a change of the parameters.
template <typename Change>
OutputError error_with(const Change& change) {
  AdvancedScaleEstimationParameters parameters;
  change(parameters);
  return estimate_scales(small_layer().weight, int4_groups(32), small_layer().samples, parameters).error;
}

TEST(ScaleEstimation, EveryParameterHasItsEffect) {
  const auto error = error_with([](auto&) {});
  const auto plain = error_with([](auto& p) { p.initial_steps = p.scale_steps = 0; });
  EXPECT_EQ(plain.after, plain.before);
  const auto no_grid = error_with([](auto& p) { p.scale_steps = 0; });
  const auto grid_alone = error_with([](auto& p) { p.initial_steps = 0; });
  const auto longer = error_with([](auto& p) { p.scale_steps = 10; });
  EXPECT_LT(no_grid.after, plain.after);
  EXPECT_LT(grid_alone.after, plain.after);
  EXPECT_LT(error.after, no_grid.after);
  EXPECT_LT(longer.after, error.after);
  EXPECT_NE(error_with([](auto& p) { p.subset_size = 4; }).before, error.before);

  // A penalty trades the error of outputs for that of the weights.
  const auto& layer = small_layer();
  const auto weight_error = [&](double penalty) {
    AdvancedScaleEstimationParameters parameters;
    parameters.weight_penalty = penalty;
    const auto result = estimate_scales(layer.weight, int4_groups(32), layer.samples, parameters);
    return (decompress(result.weight) - layer.weight).square().sum().item<double>();
  };
  EXPECT_LT(weight_error(100), weight_error(-1));
  EXPECT_EQ(weight_error(0), weight_error(-1));
}

TEST(ScaleEstimation, KnowsEveryAxisAndNumberOfThreads) {
  const auto& layer = small_layer();
  const auto along = estimate_scales(layer.weight, int4_groups(32), layer.samples);
  auto spec = int4_groups(32);
  spec.group_axis = 0;
  const int threads = at::get_num_threads();
  at::set_num_threads(threads == 1 ? 2 : 1);
  const auto across = estimate_scales(layer.weight.t(), spec, layer.samples);
  at::set_num_threads(threads);
  EXPECT_TRUE(at::equal(along.weight.codes, across.weight.codes.t()));
  EXPECT_TRUE(at::equal(along.weight.qparams.scale, across.weight.qparams.scale.t()));
  EXPECT_TRUE(at::equal(decompress(along.weight), decompress(across.weight).t()));
}

TEST(ScaleEstimation, LeavesGroupsWithoutWeightsOrInputsAlone) {
  auto weight = small_layer().weight.clone();
  weight.narrow(1, 32, 32).zero_();
  auto means = small_layer().samples.means();
  means.narrow(1, 64, 32).zero_();
  const LayerSamples samples(means, small_layer().samples.rows());
  for (const auto& spec : low_bit_specs()) {
    SCOPED_TRACE(to_string(spec.format));
    const auto result = estimate_scales(weight, spec, samples).weight;
    EXPECT_TRUE(at::isfinite(result.qparams.scale).all().item<bool>());
    const auto plain = decompress(round_to_nearest(weight, spec)), values = decompress(result);
    EXPECT_EQ(values.narrow(1, 32, 32).abs().max().item<float>(), plain.narrow(1, 32, 32).abs().max().item<float>());
    if (format_info(spec.format).scale != ScaleFormat::kE4M3) {
      EXPECT_TRUE(at::equal(values.narrow(1, 64, 32), plain.narrow(1, 64, 32)));
    }
  }
}

TEST(ScaleEstimation, RefusesWrongArguments) {
  const auto& layer = small_layer();
  const auto code = [&](const LayerSamples& samples, const AdvancedScaleEstimationParameters& parameters) {
    return thrown_error([&] { estimate_scales(layer.weight, int4_groups(32), samples, parameters); }).code();
  };
  EXPECT_EQ(code(LayerSamples(), {}), ErrorCode::kCalibration);
  EXPECT_EQ(code(LayerSamples(at::ones({2, 64}), {1, 1}), {}), ErrorCode::kInvalidArgument);
  const auto refuses = [&](const auto& change) {
    AdvancedScaleEstimationParameters parameters;
    change(parameters);
    return code(layer.samples, parameters) == ErrorCode::kInvalidArgument;
  };
  EXPECT_TRUE(refuses([](auto& p) { p.subset_size = 0; }));
  EXPECT_TRUE(refuses([](auto& p) { p.initial_steps = -1; }));
  EXPECT_TRUE(refuses([](auto& p) { p.scale_steps = -1; }));
  EXPECT_TRUE(refuses([](auto& p) { p.scale_steps = 21; }));
  EXPECT_TRUE(refuses([](auto& p) { p.weight_penalty = NAN; }));
}

}  // namespace
}  // namespace tsquant::testing

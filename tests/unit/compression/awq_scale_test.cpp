#include "compression/awq_scale.h"

#include <cmath>

#include "algorithm_specs.h"
#include "algorithms_golden.h"
#include "compression/round_to_nearest.h"
#include "support/thrown_error.h"

namespace tsquant::testing {
namespace {

const GoldenLayer& awq_layer() {
  static const GoldenLayer kLayer(data_file("compression/layer.pt"));
  return kLayer;
}

at::Tensor scale_or_ones(const AwqScale& result, int64_t channels) {
  return result.scale.defined() ? result.scale : at::ones({channels});
}

TEST(AwqScale, GivesNncfsScales) {
  for (const auto& golden : algorithms_goldens()) {
    const auto cases = golden.cases("awq_data_aware");
    EXPECT_GE(cases.size(), 8u);
    for (const auto& c : cases) {
      SCOPED_TRACE(c["key"].get<std::string>());
      const auto& p = c["params"];
      AdvancedAWQParameters parameters;
      parameters.subset_size = p["subset_size"];
      parameters.percent_to_apply = p["percent_to_apply"];
      parameters.alpha_min = p["alpha_min"];
      parameters.alpha_max = p["alpha_max"];
      parameters.steps = p["steps"];
      const auto& layer = golden.layer(c);
      const auto spec = spec_of_mode(c["mode"], c["group_size"], 1);
      const auto result = awq_scale(layer.weight, spec, &layer.samples, parameters);
      const auto wanted = golden.array(c, "awq_scale");
      EXPECT_LT(relative_difference(scale_or_ones(result, wanted.numel()), wanted), 1e-6);
    }
  }
}

TEST(AwqScale, GivesNncfsScalesWithoutData) {
  for (const auto& golden : algorithms_goldens()) {
    for (const auto& c : golden.cases("awq_data_free")) {
      SCOPED_TRACE(c["key"].get<std::string>());
      const auto& layer = golden.layer(c);
      const auto result = awq_scale(layer.weight, int4_groups(32), nullptr);
      EXPECT_LT(relative_difference(result.scale, golden.array(c, "awq_scale")), 1e-6);
      EXPECT_FALSE(result.error.has_value());
    }
  }
}

TEST(AwqScale, ReportsTheErrorOfTheScaledWeight) {
  const auto& layer = awq_layer();
  for (const auto& spec : low_bit_specs()) {
    SCOPED_TRACE(to_string(spec.format));
    AdvancedAWQParameters parameters;
    parameters.steps = 10;
    parameters.percent_to_apply = 1;
    const auto result = awq_scale(layer.weight, spec, &layer.samples, parameters);
    const auto scale = scale_or_ones(result, 128);
    const auto values = decompress(round_to_nearest(layer.weight * scale, spec)) / scale;
    const auto x = layer.samples.inputs(32);
    EXPECT_NEAR(result.error->after, error_by_inputs(layer.weight, values, x), 1e-12);
    EXPECT_NEAR(result.error->before,
                error_by_inputs(layer.weight, decompress(round_to_nearest(layer.weight, spec)), x), 1e-12);
    EXPECT_LT(result.error->after, result.error->before);
  }
}

template <typename Change>
AwqScale scale_with(const Change& change) {
  AdvancedAWQParameters parameters;
  parameters.steps = 20;
  change(parameters);
  return awq_scale(awq_layer().weight, int4_groups(32), &awq_layer().samples, parameters);
}

TEST(AwqScale, EveryParameterHasItsEffect) {
  const auto scale = scale_with([](auto&) {}).scale;
  const auto scaled_groups = [](const at::Tensor& x) {
    return (x.reshape({-1, 32}) != 1).any(1).sum().item<int64_t>();
  };
  EXPECT_EQ(scaled_groups(scale), 1);
  EXPECT_EQ(scaled_groups(scale_with([](auto& p) { p.percent_to_apply = 1; }).scale), 4);

  // Exponents from 0.9 on, and one of them alone.
  const auto magnitudes = awq_layer().samples.magnitudes();
  const auto high = scale_with([](auto& p) { p.alpha_min = 0.9; }).scale;
  EXPECT_GT(high.max().item<float>(), 1.2 * scale.max().item<float>());
  const auto single = scale_with([](auto& p) {
                        p.alpha_min = p.alpha_max = 0.5;
                        p.percent_to_apply = 1;
                      }).scale;
  EXPECT_FLOAT_EQ(single.max().item<float>(), std::sqrt(magnitudes.max().item<float>()));
  // The end of the exponents is not tried, 0 alone is no scale.
  EXPECT_FALSE(scale_with([](auto& p) { p.steps = 1; }).scale.defined());
  EXPECT_FALSE(scale_with([](auto& p) { p.alpha_max = 0; }).scale.defined());
  EXPECT_FALSE(at::equal(scale_with([](auto& p) { p.steps = 3; }).scale, scale));

  const auto free = scale_with([](auto& p) { p.prefer_data_aware_scaling = false; });
  EXPECT_TRUE(at::equal(free.scale, awq_scale(awq_layer().weight, int4_groups(32), nullptr).scale));
  EXPECT_TRUE(free.error.has_value());
  EXPECT_NE(scale_with([](auto& p) { p.subset_size = 2; }).error->before, free.error->before);
}

TEST(AwqScale, StaysAboveTheSmallestOne) {
  // Outputs of 200 * mean |w| * largest input overflow float16 when they are divided by less than the smallest scale.
  const auto previous = at::cat({at::full({1, 200}, -3.0), at::full({1, 200}, 0.01)});
  LayerSamples samples;
  samples.add(at::full({4, 200}, -50.0));
  const auto smallest = smallest_awq_scale(previous, samples);
  EXPECT_FLOAT_EQ(smallest[0].item<float>(), 200 * 3 * 50 / (0.25F * 65504));
  EXPECT_FLOAT_EQ(smallest[1].item<float>(), 200 * 0.01F * 50 / (0.25F * 65504));

  const auto& layer = awq_layer();
  auto bound = at::zeros({128});
  AdvancedAWQParameters parameters;
  parameters.steps = 10;
  parameters.percent_to_apply = 1;
  const auto free = awq_scale(layer.weight, int4_groups(32), &layer.samples, parameters).scale;
  EXPECT_TRUE(at::equal(awq_scale(layer.weight, int4_groups(32), &layer.samples, parameters, bound).scale, free));
  bound[5] = 2 * free[5].item<float>();
  const auto bounded = awq_scale(layer.weight, int4_groups(32), &layer.samples, parameters, bound).scale;
  EXPECT_EQ(bounded[5].item<float>(), bound[5].item<float>());
  parameters.prefer_data_aware_scaling = false;
  bound[5] = 1000;
  EXPECT_EQ(awq_scale(layer.weight, int4_groups(32), &layer.samples, parameters, bound).scale[5].item<float>(), 1000);
}

TEST(AwqScale, InputsThatAreAlwaysZeroKeepTheirScale) {
  const LayerSamples samples(at::zeros({3, 128}), {1, 1, 1});
  const auto result = awq_scale(awq_layer().weight, int4_groups(32), &samples);
  EXPECT_FALSE(result.scale.defined());
  EXPECT_EQ(result.error->after, 0);
}

TEST(AwqScale, KnowsEveryAxis) {
  const auto& layer = awq_layer();
  auto spec = int4_groups(32);
  const auto along = awq_scale(layer.weight, spec, &layer.samples);
  spec.group_axis = 0;
  EXPECT_TRUE(at::equal(awq_scale(layer.weight.t(), spec, &layer.samples).scale, along.scale));
}

TEST(AwqScale, RefusesWrongArguments) {
  const auto refuses = [](const auto& change) {
    AdvancedAWQParameters parameters;
    change(parameters);
    return thrown_error([&] {
             awq_scale(awq_layer().weight, int4_groups(32), &awq_layer().samples, parameters);
           }).code() == ErrorCode::kInvalidArgument;
  };
  EXPECT_TRUE(refuses([](auto& p) { p.subset_size = 0; }));
  EXPECT_TRUE(refuses([](auto& p) { p.percent_to_apply = 0; }));
  EXPECT_TRUE(refuses([](auto& p) { p.percent_to_apply = 1.5; }));
  EXPECT_TRUE(refuses([](auto& p) { p.alpha_min = 2; }));
  EXPECT_TRUE(refuses([](auto& p) { p.alpha_max = NAN; }));
  EXPECT_TRUE(refuses([](auto& p) { p.steps = 0; }));
  const LayerSamples none, narrow(at::ones({1, 64}), {1});
  const auto code = [](const LayerSamples& samples, const at::Tensor& smallest) {
    return thrown_error([&] { awq_scale(awq_layer().weight, int4_groups(32), &samples, {}, smallest); }).code();
  };
  EXPECT_EQ(code(none, {}), ErrorCode::kCalibration);
  EXPECT_EQ(code(narrow, {}), ErrorCode::kInvalidArgument);
  EXPECT_EQ(code(awq_layer().samples, at::ones({64})), ErrorCode::kInvalidArgument);
}

}  // namespace
}  // namespace tsquant::testing

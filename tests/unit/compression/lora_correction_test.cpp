#include "compression/lora_correction.h"

#include <cmath>

#include "algorithm_specs.h"
#include "algorithms_golden.h"
#include "compression/round_to_nearest.h"
#include "support/thrown_error.h"

namespace tsquant::testing {
namespace {

const GoldenLayer& lora_layer() {
  static const GoldenLayer kLayer(data_file("compression/layer.pt"));
  return kLayer;
}

AdvancedLoraCorrectionParameters float_adapters() {
  AdvancedLoraCorrectionParameters parameters;
  parameters.use_int8_adapters = false;
  return parameters;
}

LoraAdapters adapters_with(const AdvancedLoraCorrectionParameters& parameters) {
  const auto& layer = lora_layer();
  return lora_correction(layer.weight, round_to_nearest(layer.weight, int4_groups(32)), layer.samples, parameters);
}

TEST(LoraCorrection, GivesNncfsAdapters) {
  for (const auto& golden : algorithms_goldens()) {
    const auto cases = golden.cases("lora_correction");
    EXPECT_GE(cases.size(), 14u);
    for (const auto& c : cases) {
      SCOPED_TRACE(c["key"].get<std::string>());
      auto parameters = float_adapters();
      parameters.adapter_rank = c["params"]["adapter_rank"];
      parameters.num_iterations = c["params"]["num_iterations"];
      parameters.apply_regularization = c["params"]["apply_regularization"];
      parameters.subset_size = c["params"]["subset_size"];
      const auto& layer = golden.layer(c);
      const auto compressed = round_to_nearest(layer.weight, spec_of_mode(c["mode"], c["group_size"], 1));
      const auto result = lora_correction(layer.weight, compressed, layer.samples, parameters);
      // Both matrices may be turned against each other.
      const auto wanted = at::mm(golden.array(c, "lora_B"), golden.array(c, "lora_A"));
      EXPECT_LT(relative_difference(at::mm(result.b, result.a), wanted), 1e-5);
      EXPECT_LT(result.error.after, 0.05 * result.error.before);
    }
  }
}

TEST(LoraCorrection, ReportsTheErrorOfTheCorrectedLayer) {
  const auto& layer = lora_layer();
  for (const auto& spec : low_bit_specs()) {
    SCOPED_TRACE(to_string(spec.format));
    const auto compressed = round_to_nearest(layer.weight, spec);
    const auto result = lora_correction(layer.weight, compressed, layer.samples);
    const auto x = layer.samples.inputs(128), values = decompress(compressed);
    EXPECT_DOUBLE_EQ(result.error.before, error_by_inputs(layer.weight, values, x));
    EXPECT_DOUBLE_EQ(result.error.after, error_by_inputs(layer.weight, values + at::mm(result.b, result.a), x));
    EXPECT_LT(result.error.after, 0.05 * result.error.before);
  }
}

TEST(LoraCorrection, EveryParameterHasItsEffect) {
  const auto all = adapters_with(float_adapters());
  EXPECT_EQ(all.a.sizes(), (std::vector<int64_t>{8, 128}));
  EXPECT_EQ(all.b.sizes(), (std::vector<int64_t>{64, 8}));
  EXPECT_FALSE(all.a_codes.has_value());

  auto parameters = float_adapters();
  parameters.adapter_rank = 2;
  EXPECT_EQ(adapters_with(parameters).a.size(0), 2);
  EXPECT_GT(adapters_with(parameters).error.after, all.error.after);
  parameters.adapter_rank = 1000;
  const auto whole = adapters_with(parameters);
  EXPECT_EQ(whole.a.size(0), 64);
  EXPECT_LT(whole.error.after, 1e-10);

  parameters = float_adapters();
  parameters.num_iterations = 1;
  EXPECT_GT(adapters_with(parameters).error.after, all.error.after);

  parameters = float_adapters();
  parameters.apply_regularization = false;
  const auto unlimited = adapters_with(parameters);
  EXPECT_LT(unlimited.error.after, 1e-6 * all.error.after);
  const auto& layer = lora_layer();
  const auto values = decompress(round_to_nearest(layer.weight, int4_groups(32)));
  const auto weight_error = [&](const LoraAdapters& adapters) {
    return (values + at::mm(adapters.b, adapters.a) - layer.weight).square().sum().item<double>();
  };
  EXPECT_LT(weight_error(all), weight_error(unlimited));

  parameters = float_adapters();
  parameters.subset_size = 2;
  EXPECT_NE(adapters_with(parameters).error.before, all.error.before);
}

TEST(LoraCorrection, Int8AdaptersHaveOneScalePerRow) {
  const auto floats = adapters_with(float_adapters()), codes = adapters_with({});
  ASSERT_TRUE(codes.a_codes.has_value() && codes.b_codes.has_value());
  EXPECT_EQ(codes.a_codes->codes.scalar_type(), at::kByte);
  EXPECT_EQ(codes.a_codes->qparams.scale.numel(), 8);
  EXPECT_EQ(codes.b_codes->qparams.scale.numel(), 64);
  EXPECT_TRUE(at::equal(codes.a, decompress(*codes.a_codes)));
  EXPECT_TRUE(at::equal(codes.b, decompress(*codes.b_codes)));
  EXPECT_LT(relative_difference(codes.a, floats.a), 0.01);
  EXPECT_LT(relative_difference(codes.b, floats.b), 0.01);
  EXPECT_NE(codes.error.after, floats.error.after);
  EXPECT_LT(codes.error.after, 1.05 * floats.error.after);
}

// Without iterations the result is the best approximation of this rank, weighted by the inputs.
TEST(LoraCorrection, StartsFromTheBestApproximation) {
  const auto& layer = lora_layer();
  auto parameters = float_adapters();
  parameters.num_iterations = 0;
  const auto magnitudes = layer.samples.magnitudes().to(at::kDouble);
  for (const int64_t group_size : {0, 32}) {
    auto spec = int4_groups(group_size);
    spec.per_channel = group_size == 0;
    const auto groups = magnitudes.reshape({-1, 32});
    const auto weights =
        group_size == 0 ? at::ones_like(magnitudes) : (groups / groups.amax({1}, /*keepdim=*/true)).flatten();
    for (const bool tall : {false, true}) {  // more inputs than outputs, and less
      const auto weight = tall ? layer.weight.t().contiguous().repeat({1, 2}) : layer.weight;
      const auto compressed = round_to_nearest(weight, spec);
      const auto samples =
          tall ? LayerSamples(at::cat({layer.samples.means()}, 1), layer.samples.rows()) : layer.samples;
      const auto result = lora_correction(weight, compressed, samples, parameters);
      const auto residual = (weight - decompress(compressed)).to(at::kDouble) * weights;
      const auto left = residual - at::mm(result.b, result.a).to(at::kDouble) * weights;
      const auto s = std::get<1>(at::linalg_svd(residual));
      EXPECT_NEAR(left.square().sum().item<double>(), s.narrow(0, 8, s.numel() - 8).square().sum().item<double>(),
                  1e-5 * residual.square().sum().item<double>());
    }
  }
}

TEST(LoraCorrection, WorksWithoutAnyErrorAndWithoutInputs) {
  const auto& layer = lora_layer();
  const auto compressed = round_to_nearest(layer.weight, int4_groups(32));
  const auto exact = lora_correction(decompress(compressed), compressed, layer.samples);
  EXPECT_EQ(at::mm(exact.b, exact.a).abs().max().item<float>(), 0);
  const LayerSamples zeros(at::zeros({3, 128}), {1, 1, 1});
  for (const bool regularized : {true, false}) {
    AdvancedLoraCorrectionParameters parameters;
    parameters.apply_regularization = regularized;
    const auto result = lora_correction(layer.weight, compressed, zeros, parameters);
    EXPECT_TRUE(at::isfinite(at::mm(result.b, result.a)).all().item<bool>());
  }
}

TEST(LoraCorrection, KnowsEveryAxis) {
  const auto& layer = lora_layer();
  auto spec = int4_groups(32);
  const auto along = lora_correction(layer.weight, round_to_nearest(layer.weight, spec), layer.samples);
  spec.group_axis = 0;
  const auto across = lora_correction(layer.weight.t(), round_to_nearest(layer.weight.t(), spec), layer.samples);
  EXPECT_TRUE(at::equal(along.a, across.a));
  EXPECT_TRUE(at::equal(along.b, across.b));
}

TEST(LoraCorrection, RefusesWrongArguments) {
  const auto refuses = [](const auto& change) {
    AdvancedLoraCorrectionParameters parameters;
    change(parameters);
    return thrown_error([&] { adapters_with(parameters); }).code() == ErrorCode::kInvalidArgument;
  };
  EXPECT_TRUE(refuses([](auto& p) { p.adapter_rank = 0; }));
  EXPECT_TRUE(refuses([](auto& p) { p.num_iterations = -1; }));
  EXPECT_TRUE(refuses([](auto& p) { p.subset_size = 0; }));
  const auto& layer = lora_layer();
  const auto compressed = round_to_nearest(layer.weight, int4_groups(32));
  const auto code = [&](const at::Tensor& weight, const LayerSamples& samples) {
    return thrown_error([&] { lora_correction(weight, compressed, samples); }).code();
  };
  EXPECT_EQ(code(layer.weight, LayerSamples()), ErrorCode::kCalibration);
  EXPECT_EQ(code(layer.weight, LayerSamples(at::ones({1, 64}), {1})), ErrorCode::kInvalidArgument);
  EXPECT_EQ(code(layer.weight.t(), layer.samples), ErrorCode::kInvalidArgument);
}

}  // namespace
}  // namespace tsquant::testing

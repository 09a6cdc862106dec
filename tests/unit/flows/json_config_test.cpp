#include <gtest/gtest.h>
#include <tsquant/error.h>
#include <tsquant/quantize_config.h>

#include <fstream>

#include "support/support.h"

namespace tsquant::testing {
namespace {

/// A configuration with these members in "compression".
QuantizeOptions options(const std::string& members, int64_t batch_size = 1) {
  return quantize_options_from_json(R"({"compression": {"algorithm": "quantization", )" + members + "}}", batch_size);
}

std::string message_of_text(const std::string& text) {
  try {
    quantize_options_from_json(text);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
    return error.what();
  }
  ADD_FAILURE() << "nothing was thrown";
  return "";
}

std::string message_of(const std::string& members) {
  return message_of_text(R"({"compression": {"algorithm": "quantization", )" + members + "}}");
}

void expect_part(const std::string& text, const std::string& part) {
  EXPECT_NE(text.find(part), std::string::npos) << text << "\ndoes not hold\n" << part;
}

TEST(JsonConfig, NncfConfigurationFiles) {
  const auto config = quantize_options_from_json(R"({
    // comments are allowed
    "target_device": "NPU",
    "compression": [{
      "algorithm": "quantization",
      "preset": "mixed",
      "overflow_fix": "enable",
      "quantize_outputs": true,
      "ignored_scopes": ["conv1/conv2d/0", "{re}fc[12]"],
      "initializer": {"range": {"num_init_samples": 300, "type": "mean_percentile",
                                "params": {"min_percentile": 0.5, "max_percentile": 98}}},
      "weights": {"bits": 4, "mode": "asymmetric", "signed": true, "per_channel": false},
      "activations": {"bits": 8, "mode": "symmetric"}
    }]
  })",
                                                 /*batch_size=*/32);
  EXPECT_EQ(config.target_device, TargetDevice::kNpu);
  EXPECT_EQ(config.preset, c10::optional<QuantizationPreset>(QuantizationPreset::kMixed));
  EXPECT_EQ(config.subset_size, 10) << "300 rows are ten batches of 32";
  EXPECT_EQ(config.ignored_scope.names, std::vector<std::string>{"conv1/conv2d/0"});
  EXPECT_EQ(config.ignored_scope.patterns, std::vector<std::string>{".*(?:fc[12])"});
  const auto& advanced = config.advanced_parameters;
  EXPECT_EQ(advanced.overflow_fix, c10::optional<OverflowFix>(OverflowFix::kEnable));
  EXPECT_TRUE(advanced.quantize_outputs);
  EXPECT_EQ(advanced.weights_quantization_params.num_bits, c10::optional<int64_t>(4));
  EXPECT_EQ(advanced.weights_quantization_params.mode,
            c10::optional<QuantizationScheme>(QuantizationScheme::kAsymmetric));
  EXPECT_EQ(advanced.weights_quantization_params.signedness_to_force, c10::optional<bool>(true));
  EXPECT_EQ(advanced.weights_quantization_params.per_channel, c10::optional<bool>(false));
  EXPECT_EQ(advanced.activations_quantization_params.mode,
            c10::optional<QuantizationScheme>(QuantizationScheme::kSymmetric));
  for (const auto& estimator : {advanced.activations_range_estimator_params, advanced.weights_range_estimator_params}) {
    EXPECT_EQ(estimator.min.statistics_type, c10::optional<StatisticsType>(StatisticsType::kQuantile));
    EXPECT_NEAR(estimator.min.quantile_outlier_prob, 0.005, 1e-12);
    EXPECT_NEAR(estimator.max.quantile_outlier_prob, 0.02, 1e-12);
  }
}

TEST(JsonConfig, RangesOfOneGroup) {
  const auto config = options(R"("initializer": {"range": [
      {"type": "mean_min_max", "target_quantizer_group": "activations", "num_init_samples": 7},
      {"type": "min_max", "target_quantizer_group": "weights"}]})");
  EXPECT_EQ(config.subset_size, 7);
  EXPECT_EQ(config.advanced_parameters.activations_range_estimator_params.max.aggregator_type,
            c10::optional<AggregatorType>(AggregatorType::kMean));
  EXPECT_EQ(config.advanced_parameters.weights_range_estimator_params.max.aggregator_type,
            c10::optional<AggregatorType>(AggregatorType::kMax));
  EXPECT_EQ(options(R"("ignored_scopes": "conv1")").ignored_scope.names, std::vector<std::string>{"conv1"});
}

TEST(JsonConfig, LimitsAreThoseOfTheLibrary) {
  const auto with = [](const std::string& member) { return message_of(R"("advanced_parameters": {)" + member + "}"); };
  expect_part(with(R"("activations_range_estimator_params": {"min": {"clipping_value": 0}})"),
              "clipping_value: 0 is not allowed (at configuration); use number above 0");
  expect_part(with(R"("bias_correction_params": {"reference": "best"})"), "use simulated, collected");
  expect_part(with(R"("bias_correction_params": {"threshold": -1})"), "threshold: -1 is not allowed");
}

TEST(JsonConfig, TheArgumentsOfQuantizeByName) {
  const auto config = options(R"(
    "mode": "fp8_e5m2", "model_type": "transformer", "subset_size": 20, "fast_bias_correction": false,
    "form": "reference", "engine": "onednn", "cost": "off",
    "ignored_scope": {"names": ["a"], "patterns": ["b.*"], "types": ["linear"], "validate": false,
                      "subgraphs": [{"inputs": ["c"], "outputs": ["d", "e"]}]})");
  EXPECT_EQ(config.mode, c10::optional<QuantizationMode>(QuantizationMode::kFP8E5M2));
  EXPECT_TRUE(config.model_type.has_value());
  EXPECT_EQ(config.subset_size, 20);
  EXPECT_FALSE(config.fast_bias_correction);
  EXPECT_EQ(config.form, c10::optional<OutputForm>(OutputForm::kReference));
  EXPECT_EQ(config.engine, "onednn");
  EXPECT_EQ(config.cost, LoweringCost::kOff);
  EXPECT_EQ(config.ignored_scope.types, std::vector<std::string>{"linear"});
  EXPECT_EQ(config.ignored_scope.patterns, std::vector<std::string>{"b.*"});
  EXPECT_FALSE(config.ignored_scope.validate);
  ASSERT_EQ(config.ignored_scope.subgraphs.size(), 1u);
  EXPECT_EQ(config.ignored_scope.subgraphs[0].outputs, (std::vector<std::string>{"d", "e"}));
}

TEST(JsonConfig, EveryAdvancedParameter) {
  const auto advanced = options(R"("advanced_parameters": {
    "overflow_fix": "disable", "quantize_outputs": true, "inplace_statistics": false,
    "disable_channel_alignment": false, "disable_bias_correction": true, "batchwise_statistics": false,
    "quantizer_propagation_rule": "do_not_merge_branches",
    "activations_quantization_params": {"num_bits": 8, "narrow_range": true, "signedness_to_force": false},
    "weights_quantization_params": {"destination_type": "f8e4m3", "mode": "symmetric", "per_channel": true},
    "activations_range_estimator_params": {
      "min": {"statistics_type": "abs_quantile", "aggregator_type": "median_no_outliers", "clipping_value": 3.5,
              "quantile_outlier_prob": 0.25}, "max": {"statistics_type": "raw", "aggregator_type": "histogram"}},
    "weights_range_estimator_params": "mean_quantile",
    "bias_correction_params": {"apply_for_all_nodes": true, "threshold": 1.5, "reference": "collected",
                               "smallest_shift": 0.25},
    "smooth_quant_alphas": {"convolution": 0.25, "matmul": -1}, "smooth_quant_alpha": 0.5,
    "backend_params": {"compress_weights": false, "form": "lowered", "engine": "tsquant"}})")
                            .advanced_parameters;
  EXPECT_EQ(advanced.overflow_fix, c10::optional<OverflowFix>(OverflowFix::kDisable));
  EXPECT_TRUE(advanced.quantize_outputs);
  EXPECT_FALSE(advanced.inplace_statistics);
  EXPECT_FALSE(advanced.disable_channel_alignment);
  EXPECT_TRUE(advanced.disable_bias_correction);
  EXPECT_EQ(advanced.batchwise_statistics, c10::optional<bool>(false));
  EXPECT_EQ(advanced.quantizer_propagation_rule, QuantizerPropagationRule::kDoNotMergeBranches);
  EXPECT_EQ(advanced.activations_quantization_params.narrow_range, c10::optional<bool>(true));
  EXPECT_EQ(advanced.activations_quantization_params.num_bits, c10::optional<int64_t>(8));
  EXPECT_EQ(advanced.activations_quantization_params.signedness_to_force, c10::optional<bool>(false));
  EXPECT_EQ(advanced.weights_quantization_params.destination_type, c10::optional<FP8Type>(FP8Type::kE4M3));
  EXPECT_EQ(advanced.weights_quantization_params.per_channel, c10::optional<bool>(true));
  const auto& estimator = advanced.activations_range_estimator_params;
  EXPECT_EQ(estimator.min.statistics_type, c10::optional<StatisticsType>(StatisticsType::kAbsQuantile));
  EXPECT_EQ(estimator.min.aggregator_type, c10::optional<AggregatorType>(AggregatorType::kMedianNoOutliers));
  EXPECT_EQ(estimator.min.clipping_value, c10::optional<double>(3.5));
  EXPECT_EQ(advanced.bias_correction_params.reference, c10::optional<BiasReference>(BiasReference::kCollected));
  EXPECT_EQ(estimator.min.quantile_outlier_prob, 0.25);
  EXPECT_EQ(estimator.max.aggregator_type, c10::optional<AggregatorType>(AggregatorType::kHistogram));
  EXPECT_EQ(advanced.weights_range_estimator_params.min.statistics_type,
            c10::optional<StatisticsType>(StatisticsType::kQuantile));
  EXPECT_TRUE(advanced.bias_correction_params.apply_for_all_nodes);
  EXPECT_EQ(advanced.bias_correction_params.threshold, c10::optional<double>(1.5));
  EXPECT_EQ(advanced.bias_correction_params.smallest_shift, c10::optional<double>(0.25));
  EXPECT_EQ(advanced.smooth_quant_alphas.convolution, 0.25);
  EXPECT_EQ(advanced.smooth_quant_alphas.matmul, -1);
  EXPECT_EQ(advanced.smooth_quant_alpha, c10::optional<double>(0.5));
  EXPECT_EQ(advanced.backend_params, (std::map<std::string, std::string>{
                                         {"compress_weights", "false"}, {"form", "lowered"}, {"engine", "tsquant"}}));
}

TEST(JsonConfig, MessagesNameThePlaceAndWhatIsAllowed) {
  expect_part(message_of(R"("weights": {"bits": 16})"), "compression.weights.bits: 16 is not allowed");
  expect_part(message_of(R"("weights": {"bits": 16})"), "use integer from 2 up to 8");
  expect_part(message_of(R"("preset": "fast")"), "compression.preset: \"fast\" is not allowed (at configuration)");
  expect_part(message_of(R"("preset": "fast")"), "use performance, mixed");
  expect_part(message_of(R"("fast_bias_correction": "yes")"), "use boolean");
  const auto unknown = message_of(R"("initializer": {"range": {"samples": 3}})");
  expect_part(unknown, "compression.initializer.range: unknown key \"samples\"");
  expect_part(unknown, "known here: num_init_samples, params, type");
  expect_part(message_of(R"("initializer": {"range": {"type": "foursigma"}})"), "range.type: \"foursigma\"");
  expect_part(message_of(R"("subset_size": 0)"), "compression.subset_size: 0 is not allowed");
  expect_part(message_of(R"("advanced_parameters": {"smooth_quant_alphas": {"matmul": 2}})"),
              "advanced_parameters.smooth_quant_alphas.matmul: 2 is not allowed");
  expect_part(message_of(R"("advanced_parameters": {"weights_range_estimator_params": "best"})"),
              "advanced_parameters.weights_range_estimator_params: \"best\" is not allowed");
  expect_part(message_of_text("{}"), "the key \"compression\" is missing");
  expect_part(message_of_text("[]"), "use object");
  expect_part(message_of_text("{\"compression\": "), "this is no JSON");
  expect_part(message_of_text(R"({"compression": [], "target_device": "CPU"})"), "no section");
  expect_part(message_of_text(R"({"compression": {"algorithm": "rb_sparsity"}})"),
              "compression: there is no section of quantization (at configuration); there are sections of rb_sparsity");
}

TEST(JsonConfig, AValueHasOnePlace) {
  expect_part(message_of(R"("overflow_fix": "enable", "advanced_parameters": {"overflow_fix": "enable"})"),
              "compression.overflow_fix: compression.advanced_parameters.overflow_fix gives this value too");
  expect_part(message_of(R"("weights": {}, "advanced_parameters": {"weights_quantization_params": {}})"),
              "compression.weights: ");
  expect_part(message_of(R"("ignored_scopes": [], "ignored_scope": {})"), "compression.ignored_scopes: ");
  expect_part(message_of(R"("subset_size": 3, "initializer": {"range": {"num_init_samples": 3}})"), "subset_size");
  expect_part(message_of(R"("initializer": {"range": {"type": "min_max"}},
                            "advanced_parameters": {"activations_range_estimator_params": "minmax"})"),
              "compression.initializer.range.type: ");
  expect_part(message_of(R"("initializer": {"range": {"type": "min_max", "params": {"min_percentile": 1}}})"),
              "only the types mean_percentile and percentile have percentiles");
}

TEST(JsonConfig, Files) {
  const std::string path = temp_dir() + "/config.json";
  std::ofstream(path) << R"({"compression": {"algorithm": "quantization", "subset_size": 5}})";
  EXPECT_EQ(read_quantize_config(path).subset_size, 5);
  try {
    read_quantize_config(path + ".missing");
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.place(), path + ".missing");
  }
}

}  // namespace
}  // namespace tsquant::testing

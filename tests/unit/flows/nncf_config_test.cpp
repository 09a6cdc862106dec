#include <gtest/gtest.h>
#include <tsquant/nncf_config.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <map>

#include "support/thrown_error.h"
#include "unit/flows/small_net.h"

namespace tsquant::testing {
namespace {

NNCFConfig sample_config(const std::string& name) {
  return NNCFConfig::from_json(data_file("nncf_configs/" + name + ".json"));
}

/// A configuration with these members in the section of quantization.
NNCFConfig config_with(const std::string& members) {
  return NNCFConfig::from_text(R"({"compression": {"algorithm": "quantization", )" + members + "}}");
}

std::string fault_of(const std::string& text) {
  const Error error = thrown_error([&] { NNCFConfig::from_text(text); });
  EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
  return error.what();
}

#define EXPECT_HOLDS(text, part) EXPECT_NE(std::string(text).find(part), std::string::npos) << text

/// The warnings of a sample; each starts with "configuration: ".
const std::map<std::string, std::vector<std::string>>& expected_warnings() {
  const std::string foreign = "configuration: settings of training or of other programs have no effect: ";
  const std::string others = "configuration: sections of other algorithms than quantization have no effect: ";
  const auto no_effect = [](const std::string& path) { return "configuration: " + path + " has no effect"; };
  static const std::map<std::string, std::vector<std::string>> table{
      {"plain", {foreign + "batch_size, epochs, input_info, model, num_classes, optimizer, pretrained"}},
      {"per_tensor_4_bits", {foreign + "input_info"}},
      {"staged_with_comments",
       {foreign + "log_dir, model, compression.params, compression.compression_lr_multiplier, "
                  "compression.weights.logarithm_scale, compression.initializer.batchnorm_adaptation",
        no_effect("compression.initializer.range.num_init_samples")}},
      {"sparsity_and_int8",
       {foreign + "model, optimizer",
        others + "compression[0] (rb_sparsity), compression[2] (knowledge_distillation)"}},
      {"bits_by_hand",
       {"configuration: target_device TRIAL has no table", no_effect("compression.initializer.precision")}},
      {"asymmetric", {}},
      {"searched_bits", {foreign + "model", no_effect("compression.initializer.precision")}},
      {"ranges",
       {"configuration: compression.initializer.range[0].type percentile is computed as mean_percentile",
        no_effect("compression.initializer.range[1].type"), no_effect("compression.initializer.range[2]")}},
      {"scopes",
       {no_effect("target_scopes"), no_effect("compression.quantize_inputs"), no_effect("compression.scope_overrides"),
        no_effect("compression.target_scopes"), no_effect("compression.weights.ignored_scopes"),
        no_effect("compression.activations.target_scopes"), no_effect("compression.activations.unified_scale_ops"),
        no_effect("compression.export_to_onnx_standard_ops")}},
      {"detector_of_another_framework",
       {foreign + "anchor, batch_size, dataset_type, input_info, model, preprocessing, weights, "
                  "compression.initializer.batchnorm_adaptation"}},
      {"accuracy_aware", {"configuration: accuracy_aware_training trains nothing"}},
      {"pruning_alone", {foreign + "model", others + "compression (filter_pruning)"}},
  };
  return table;
}

TEST(NncfConfig, EverySampleIsValidAndNamesWhatHasNoEffectOnce) {
  size_t samples = 0;
  for (const auto& entry : std::filesystem::directory_iterator(data_file("nncf_configs"))) {
    const std::string name = entry.path().stem().string();
    SCOPED_TRACE(name);
    const auto& expected = expected_warnings().at(name);
    const auto warnings = sample_config(name).warnings();
    ASSERT_EQ(warnings.size(), expected.size()) << ::testing::PrintToString(warnings);
    for (size_t i = 0; i < expected.size(); ++i)
      EXPECT_EQ(warnings[i].compare(0, expected[i].size(), expected[i]), 0) << warnings[i] << "\nshould start with\n"
                                                                            << expected[i];
    ++samples;
  }
  EXPECT_EQ(samples, expected_warnings().size());
}

TEST(NncfConfig, EverySampleOfQuantizationRuns) {
  const auto data = Dataset::from_rows({at::cat(images())}, 1);
  for (const auto& entry : expected_warnings()) {
    SCOPED_TRACE(entry.first);
    const auto config = sample_config(entry.first);
    if (config.algorithms().front() == "filter_pruning") continue;
    auto model = Model::from(net());
    auto options = config.quantize_options();
    options.ignored_scope.validate = false;  // their rules are about other models
    const auto result = quantize(model, data, options);
    EXPECT_GT(result.report.quantizers.size(), 0u);
    EXPECT_TRUE(output(result).isfinite().all().item<bool>());
  }
}

TEST(NncfConfig, ValuesOfTheSamplesAreOptions) {
  const auto four = sample_config("per_tensor_4_bits").quantize_options(3);
  EXPECT_EQ(four.target_device, TargetDevice::kNpu);
  EXPECT_EQ(four.preset, c10::optional<QuantizationPreset>(QuantizationPreset::kMixed));
  EXPECT_EQ(four.subset_size, 2) << "four rows are two batches of three";
  const auto& advanced = four.advanced_parameters;
  EXPECT_EQ(advanced.overflow_fix, c10::optional<OverflowFix>(OverflowFix::kDisable));
  EXPECT_EQ(advanced.weights_quantization_params.num_bits, c10::optional<int64_t>(4));
  EXPECT_EQ(advanced.weights_quantization_params.per_channel, c10::optional<bool>(false));
  EXPECT_EQ(advanced.activations_quantization_params.num_bits, c10::optional<int64_t>(8)) << "8.0 in the file";
  EXPECT_EQ(advanced.activations_range_estimator_params.max.aggregator_type,
            c10::optional<AggregatorType>(AggregatorType::kMean));
  EXPECT_EQ(advanced.weights_range_estimator_params.max.aggregator_type,
            c10::optional<AggregatorType>(AggregatorType::kMax));

  const auto by_hand = sample_config("bits_by_hand").quantize_options();
  EXPECT_EQ(by_hand.target_device, TargetDevice::kAny);
  EXPECT_EQ(by_hand.advanced_parameters.weights_quantization_params.mode,
            c10::optional<QuantizationScheme>(QuantizationScheme::kAsymmetric));

  const auto asymmetric = config_with(R"("weights": {"mode": "asymmetric"})").quantize_options();
  EXPECT_EQ(asymmetric.advanced_parameters.overflow_fix, c10::optional<OverflowFix>(OverflowFix::kDisable));
  EXPECT_FALSE(config_with(R"("weights": {"bits": 8})").quantize_options().advanced_parameters.overflow_fix);

  const auto ranges = sample_config("ranges").quantize_options();
  EXPECT_EQ(ranges.subset_size, 5) << "the largest number; that of some operators does not count";
  const auto& activations = ranges.advanced_parameters.activations_range_estimator_params;
  EXPECT_EQ(activations.min.statistics_type, c10::optional<StatisticsType>(StatisticsType::kQuantile));
  EXPECT_NEAR(activations.max.quantile_outlier_prob, 0.01, 1e-12);
  EXPECT_FALSE(ranges.advanced_parameters.weights_range_estimator_params.min.statistics_type);

  const auto scopes = sample_config("scopes").quantize_options();
  EXPECT_TRUE(scopes.advanced_parameters.quantize_outputs);
  EXPECT_FALSE(scopes.ignored_scope.validate);
  EXPECT_EQ(scopes.ignored_scope.names, (std::vector<std::string>{"body/0/conv2d/0", "add/0", "linear/0"}));
  EXPECT_EQ(scopes.ignored_scope.patterns, std::vector<std::string>{".*(?:norm)"});
  EXPECT_EQ(sample_config("staged_with_comments").quantize_options().subset_size, 300) << "0 is no number of samples";
}

TEST(NncfConfig, NamesOfOperatorsThatAreNotOfNncfsFormStayAsTheyAre) {
  const auto names = [](const std::string& scopes) {
    return config_with(R"("ignored_scopes": [)" + scopes + "]").quantize_options().ignored_scope.names;
  };
  const std::vector<std::string> own{"layer1/0/conv1/conv2d/0",
                                     "conv2d_4",
                                     "A/B/conv2d_0",
                                     "A/B[c]/conv2d",
                                     "/x_0",
                                     "A/B[c/relu_0",
                                     "A//relu_0",
                                     "A/B[]/relu_0",
                                     "",
                                     "/",
                                     "A/_0"};
  std::string text;
  for (const auto& name : own) text += (text.empty() ? "\"" : ", \"") + name + "\"";
  EXPECT_EQ(names(text), own);
  EXPECT_EQ(names(R"("ResNet/Sequential[layer1]/BasicBlock[0]/NNCFConv2d[conv1]/conv2d_0", "N/A[b]/relu__12")"),
            (std::vector<std::string>{"layer1/0/conv1/conv2d/0", "b/relu_/12"}));
}

TEST(NncfConfig, AKeyThatIsWrongGetsTheNearestRightOne) {
  EXPECT_HOLDS(fault_of(R"({"compresion": {"algorithm": "quantization"}})"),
               "unknown key \"compresion\" (at configuration); the nearest is \"compression\"");
  EXPECT_HOLDS(fault_of(R"({"target_devices": "CPU"})"), "the nearest is \"target_device\"");
  const auto in_section = [](const std::string& members) {
    return fault_of(R"({"compression": [{"algorithm": "quantization", )" + members + "}]}");
  };
  EXPECT_HOLDS(in_section(R"("presets": "mixed")"), "compression[0]: unknown key \"presets\"");
  EXPECT_HOLDS(in_section(R"("presets": "mixed")"), "the nearest is \"preset\"");
  EXPECT_HOLDS(in_section(R"("weights": {"bit": 8})"), "the nearest is \"bits\"");
  EXPECT_HOLDS(in_section(R"("initializer": {"num_init_steps": 10})"),
               "compression[0].initializer: unknown key \"num_init_steps\"");
  EXPECT_HOLDS(in_section(R"("params": {"sparsity_init": 0.1})"),
               "compression[0].params: unknown key \"sparsity_init\"");
  EXPECT_HOLDS(in_section(R"("initializer": {"precision": {"bitwidth_per_scope": [["a", 8]]}})"),
               "precision.bitwidth_per_scope[0][0]: \"a\" is not allowed");
  EXPECT_HOLDS(in_section(R"("scope_overrides": {"weights": {"": {"bits": 99}}})"), "bits: 99 is not allowed");
  EXPECT_HOLDS(in_section(R"("weights": {"bits": 8.5})"), "compression[0].weights.bits: 8.5 is not allowed");
  EXPECT_HOLDS(fault_of(R"({"compression": {"algorithm": "quantisation"}})"),
               "compression.algorithm: \"quantisation\" is not allowed");
  EXPECT_HOLDS(fault_of(R"({"compression": {"preset": "mixed"}})"), "compression: the key \"algorithm\" is missing");
  EXPECT_HOLDS(fault_of(R"({"accuracy_control": {"max_dorp": 1}})"), "the nearest is \"max_drop\"");
  EXPECT_HOLDS(fault_of("{ /* no end"), "this is no JSON");
  EXPECT_HOLDS(fault_of(R"({"a": "// no comment)"), "this is no JSON");
}

TEST(NncfConfig, CommentsAndCommasInsideOfTextsAreText) {
  const auto config = NNCFConfig::from_text(R"({"a": "x // y, ] # \" /* z */ ,}", "b": [1, 2, /* end */ ], })");
  EXPECT_EQ(config.get({"a"}).toStringRef(), "x // y, ] # \" /* z */ ,}");
  EXPECT_EQ(config.get({"b"}).toListRef().size(), 2u);
}

TEST(NncfConfig, IsEditedPrintedAndSaved) {
  auto config = sample_config("sparsity_and_int8");
  config.set({"compression", "1", "weights", "bits"}, 4);
  config.set({"compression", "1", "ignored_scopes"}, std::vector<std::string>{"conv2d/0"});
  config.set({"target_device"}, "CPU");
  config.set({"compression", "1", "initializer", "range", "params", "min_percentile"}, 0.5);
  EXPECT_TRUE(config.erase({"compression", "0"}));
  EXPECT_FALSE(config.erase({"compression", "7"}));
  EXPECT_EQ(config.get({"compression", "0", "weights", "bits"}).toInt(), 4);
  EXPECT_TRUE(config.get({"compression", "0", "weights", "mode"}).isNone());
  EXPECT_TRUE(config.get({"model", "size"}).isNone());

  const std::string path = temp_dir() + "/edited.json";
  config.save(path);
  const auto again = NNCFConfig::from_json(path);
  EXPECT_EQ(again.to_json(), config.to_json());
  EXPECT_LT(again.to_json().find("\"model\""), again.to_json().find("\"compression\"")) << "keys keep their order";
  EXPECT_EQ(again.algorithms(), (std::vector<std::string>{"quantization", "knowledge_distillation"}));
  const auto options = again.quantize_options();
  EXPECT_EQ(options.target_device, TargetDevice::kCpu);
  EXPECT_EQ(options.ignored_scope.names, std::vector<std::string>{"conv2d/0"});
  EXPECT_EQ(options.advanced_parameters.weights_quantization_params.num_bits, c10::optional<int64_t>(4));

  const auto before = config.to_json();
  EXPECT_HOLDS(thrown_error([&] {
                 config.set({"compression", "0", "weights", "bits"}, 9);
               }).what(),
               "compression[0].weights.bits: 9 is not allowed");
  EXPECT_HOLDS(thrown_error([&] { config.set({"compression", "9"}, "x"); }).what(), "is no index of an array of 2");
  EXPECT_HOLDS(thrown_error([&] { config.set({"model", "size"}, 1); }).what(), "\"size\" cannot be inside of");
  EXPECT_HOLDS(thrown_error([&] { config.set({"a"}, at::ones({1})); }).what(), "a: a configuration cannot hold Tensor");
  EXPECT_HOLDS(thrown_error([&] { config.set({"a"}, std::nan("")); }).what(), "cannot hold nan");
  EXPECT_HOLDS(thrown_error([&] { config.set({"a"}, "\xff"); }).what(), "no UTF-8");
  EXPECT_HOLDS(thrown_error([&] { config.erase({"compression", "0", "algorithm"}); }).what(), "is missing");
  EXPECT_EQ(config.to_json(), before);
}

TEST(NncfConfig, FromADict) {
  c10::impl::GenericDict weights(c10::StringType::get(), c10::AnyType::get());
  weights.insert("bits", 4);
  weights.insert("per_channel", true);
  c10::impl::GenericDict section(c10::StringType::get(), c10::AnyType::get());
  section.insert("algorithm", "quantization");
  section.insert("weights", weights);
  c10::impl::GenericDict dict(c10::StringType::get(), c10::AnyType::get());
  c10::impl::GenericList sections(c10::AnyType::get());
  sections.push_back(section);
  dict.insert("compression", sections);
  dict.insert("rate", 0.5);
  const auto config = NNCFConfig::from_dict(dict);
  weights.insert("bits", 2);
  EXPECT_EQ(config.quantize_options().advanced_parameters.weights_quantization_params.num_bits,
            c10::optional<int64_t>(4))
      << "the configuration is a copy";
  EXPECT_EQ(config.get({"rate"}).toDouble(), 0.5);
  EXPECT_EQ(NNCFConfig::from_dict(config.get({})).to_json(), config.to_json());
  EXPECT_HOLDS(thrown_error([] { NNCFConfig::from_dict(c10::IValue(3)); }).what(), "use object");
  c10::impl::GenericDict numbered(c10::IntType::get(), c10::AnyType::get());
  numbered.insert(1, 2);
  EXPECT_HOLDS(thrown_error([&] { NNCFConfig::from_dict(numbered); }).what(), "a key that is no text");
  dict.insert("self", dict);
  EXPECT_HOLDS(thrown_error([&] { NNCFConfig::from_dict(dict); }).what(), "nested too deeply");
  dict.clear();
}

TEST(NncfConfig, ASectionWinsOverTheTop) {
  const auto config = NNCFConfig::from_text(R"({"compression_lr_multiplier": 2, "compression": [
      {"algorithm": "quantization", "compression_lr_multiplier": 3}, {"algorithm": "rb_sparsity"},
      {"algorithm": "const_sparsity"}, {"algorithm": "const_sparsity"}]})");
  const auto value = [&](const std::string& name, const std::string& algorithm) {
    return config.get_redefinable_global_param_value_for_algo(name, algorithm);
  };
  EXPECT_EQ(value("compression_lr_multiplier", "quantization").toInt(), 3);
  EXPECT_EQ(value("compression_lr_multiplier", "rb_sparsity").toInt(), 2);
  EXPECT_TRUE(value("target_device", "rb_sparsity").isNone());
  EXPECT_HOLDS(thrown_error([&] { value("x", "filter_pruning"); }).what(), "there is no section of filter_pruning");
  EXPECT_HOLDS(thrown_error([&] { value("x", "const_sparsity"); }).what(), "compression[3]: a second section");
}

TEST(NncfConfig, WithoutOneSectionThereAreNoOptions) {
  const auto fault = [](const std::string& text) {
    return std::string(thrown_error([&] { NNCFConfig::from_text(text).quantize_options(); }).what());
  };
  EXPECT_HOLDS(fault("{}"), "the key \"compression\" is missing");
  EXPECT_HOLDS(fault(R"({"compression": []})"), "there is no section of quantization");
  EXPECT_HOLDS(fault(R"({"compression": [{"algorithm": "rb_sparsity"}]})"), "there are sections of rb_sparsity");
  EXPECT_HOLDS(fault(R"({"compression": [{"algorithm": "quantization"}, {"algorithm": "experimental_quantization"}]})"),
               "compression[1]: a second section");
}

TEST(NncfConfig, LimitOfAccuracy) {
  EXPECT_FALSE(sample_config("plain").accuracy_control_options());
  const auto percent = sample_config("accuracy_aware").accuracy_control_options();
  ASSERT_TRUE(percent);
  EXPECT_EQ(percent->drop_type, DropType::kRelative);
  EXPECT_NEAR(percent->max_drop, 0.01, 1e-12);
  auto config = sample_config("accuracy_aware");
  config.set({"accuracy_control", "max_drop"}, 0.25);
  config.set({"accuracy_control", "advanced_accuracy_restorer_parameters", "max_num_iterations"}, 3);
  const auto own = config.accuracy_control_options();
  EXPECT_EQ(own->max_drop, 0.25);
  EXPECT_EQ(own->drop_type, DropType::kAbsolute);
  EXPECT_EQ(own->advanced_accuracy_restorer_parameters.max_num_iterations, 3);
  EXPECT_EQ(config.warnings(),
            std::vector<std::string>{"configuration: accuracy_aware_training has no effect: accuracy_control holds"});
}

TEST(NncfConfig, TheSchemaIsJsonAndKnowsTheTableOfOptions) {
  const std::string schema = NNCFConfig::schema();
  for (const char* part : {"draft-07", "TRIAL", "threesigma", "smooth_quant_alphas", "max_drop"}) {
    EXPECT_HOLDS(schema, part);
  }
}

TEST(NncfConfig, CompressesWeights) {
  auto config = NNCFConfig::from_text(R"({"weight_compression": {"mode": "int4_sym", "group_size": 4}, "model": "a"})");
  auto model = Model::from(net());
  const auto result = compress_weights(model, config);
  const auto is_int4 = [](const auto& weight) { return weight.format == "int4_sym"; };
  const auto& weights = result.report.weights;
  EXPECT_EQ(std::count_if(weights.begin(), weights.end(), is_int4), 0) << "the last layer has the backup precision";
  EXPECT_HOLDS(result.report.warnings.back(), "have no effect: model");

  config.set({"weight_compression", "all_layers"}, true);
  const auto all = compress_weights(model, config).report.weights;
  EXPECT_EQ(std::count_if(all.begin(), all.end(), is_int4), 1);
  config.set({"ignored_scopes"}, "{re}linear");
  const auto rest = compress_weights(model, config).report.weights;
  EXPECT_EQ(std::count_if(rest.begin(), rest.end(), is_int4), 0);
  EXPECT_HOLDS(thrown_error([&] { config.set({"weight_compression", "group_size"}, "many"); }).what(), "group_size");

  config.set({"weight_compression", "gptq"}, true);
  EXPECT_EQ(thrown_error([&] { compress_weights(model, config); }).place(), "gptq") << "there is no data";
  config.erase({"weight_compression"});
  EXPECT_HOLDS(thrown_error([&] { compress_weights(model, config); }).what(), "\"weight_compression\" is missing");
}

TEST(NncfConfig, QuantizesWithWhatIsRegistered) {
  auto config =
      config_with(R"("weights": {"bits": 4}, "form": "reference", "scope_overrides": {"weights": {"a": {}}})");
  auto model = Model::from(net());
  EXPECT_HOLDS(thrown_error([&] { quantize(model, config); }).what(), "no quantization_range_init_args are registered");
  const auto data = Dataset::from_rows({at::cat(images())}, 2);
  const auto ranges = std::make_shared<QuantizationRangeInitArgs>(data);
  config.register_extra_structs({ranges});
  EXPECT_HOLDS(thrown_error([&] { config.register_extra_structs({ranges}); }).what(),
               "registered with the configuration");
  EXPECT_TRUE(config.has_extra_struct<QuantizationRangeInitArgs>());
  EXPECT_FALSE(config.has_extra_struct<ModelEvaluationArgs>());

  const auto result = quantize(model, config);
  EXPECT_LE(first(result, "weight").quant_max, 7);
  EXPECT_HOLDS(result.report.warnings.back(), "compression.scope_overrides has no effect");

  config.set({"accuracy_control", "max_drop"}, 0.5);
  const auto metric = [](ValidationModel& runner, const Dataset& validation, const std::vector<int64_t>& indices) {
    double sum = 0;
    for (int64_t i : indices) sum += runner(validation.get(i)).toTensor().softmax(1).max().item<double>();
    return ValidationResult(sum / static_cast<double>(indices.size()));
  };
  config.register_extra_structs({std::make_shared<ModelEvaluationArgs>(data, metric)});
  EXPECT_EQ(config.get_all_extra_structs().size(), 2u);
  const auto limited = quantize_with_accuracy_control(model, config);
  EXPECT_TRUE(limited.limit_met);
  EXPECT_HOLDS(limited.quantized.report.warnings.back(), "compression.scope_overrides has no effect");
}

}  // namespace
}  // namespace tsquant::testing

#include <fmt/format.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "flows/json_schema.h"
#include "flows/option_names.h"
#include "io/json_text.h"
#include "tsquant/error.h"
#include "tsquant/quantize_config.h"

namespace tsquant {

namespace {

using nlohmann::json;

const OptionNames<StatisticsType> kStatistics = {{"min", StatisticsType::kMin},
                                                 {"max", StatisticsType::kMax},
                                                 {"abs_max", StatisticsType::kAbsMax},
                                                 {"quantile", StatisticsType::kQuantile},
                                                 {"abs_quantile", StatisticsType::kAbsQuantile},
                                                 {"mean", StatisticsType::kMean},
                                                 {"raw", StatisticsType::kRaw}};
const OptionNames<AggregatorType> kAggregators = {{"min", AggregatorType::kMin},
                                                  {"max", AggregatorType::kMax},
                                                  {"mean", AggregatorType::kMean},
                                                  {"median", AggregatorType::kMedian},
                                                  {"mean_no_outliers", AggregatorType::kMeanNoOutliers},
                                                  {"median_no_outliers", AggregatorType::kMedianNoOutliers},
                                                  {"histogram", AggregatorType::kHistogram}};
const OptionNames<QuantizationMode> kModes = {{"symmetric", QuantizationMode::kSymmetric},
                                              {"asymmetric", QuantizationMode::kAsymmetric}};
const OptionNames<FP8Type> kDestinations = {{"f8e4m3", FP8Type::kE4M3}, {"f8e5m2", FP8Type::kE5M2}};
const OptionNames<BiasReference> kReferences = {{"simulated", BiasReference::kSimulated},
                                                {"collected", BiasReference::kCollected}};

/// Sets `target` when the object has the key. The schema has checked types and names before.
template <typename Target>
void read(const json& object, const char* key, Target& target) {
  if (object.contains(key)) target = object.at(key).get<Target>();
}
template <typename Value>
void read(const json& object, const char* key, c10::optional<Value>& target) {
  if (object.contains(key)) target = object.at(key).get<Value>();
}
template <typename Value, typename Target>
void read(const json& object, const char* key, const OptionNames<Value>& names, Target& target) {
  if (object.contains(key)) target = names.at(object.at(key).get<std::string>());
}

/// Reads one configuration; keeps where it came from for messages.
class ConfigReader {
 public:
  ConfigReader(const json& document, int64_t batch_size, std::string place)
      : document_(document), batch_size_(batch_size), place_(std::move(place)) {}

  QuantizeOptions options() {
    const json& compression = document_.at("compression");
    read(document_, "target_device", target_device_names(), options_.target_device);
    read_arguments(compression);
    if (compression.contains("advanced_parameters")) read_advanced(compression.at("advanced_parameters"));
    read_nncf(compression);
    return options_;
  }

 private:
  [[noreturn]] void refuse(const std::string& path, const std::string& message, const std::string& advice = "") const {
    throw Error(ErrorCode::kInvalidArgument, fmt::format("{}: {}", path, message), place_, advice);
  }

  /// A value has one place: NNCF's key or the argument of the same meaning.
  void require_one(bool a, bool b, const std::string& first, const std::string& second) const {
    if (a && b) refuse(first, fmt::format("compression.{} gives this value too", second), "keep one of them");
  }

  void read_arguments(const json& compression) {
    read(compression, "mode", mode_names(), options_.mode);
    read(compression, "preset", preset_names(), options_.preset);
    if (compression.contains("model_type")) options_.model_type = ModelType::kTransformer;
    read(compression, "subset_size", options_.subset_size);
    read(compression, "fast_bias_correction", options_.fast_bias_correction);
    read(compression, "form", form_names(), options_.form);
    read(compression, "engine", options_.engine);
    read(compression, "cost", cost_names(), options_.cost);
    if (!compression.contains("ignored_scope")) return;
    const json& scope = compression.at("ignored_scope");
    auto& ignored = options_.ignored_scope;
    read(scope, "names", ignored.names);
    read(scope, "patterns", ignored.patterns);
    read(scope, "types", ignored.types);
    read(scope, "validate", ignored.validate);
    for (const auto& subgraph : scope.value("subgraphs", json::array())) {
      ignored.subgraphs.push_back({subgraph.at("inputs"), subgraph.at("outputs")});
    }
  }

  void read_advanced(const json& object) {
    auto& advanced = options_.advanced_parameters;
    read(object, "overflow_fix", overflow_fix_names(), advanced.overflow_fix);
    read(object, "quantize_outputs", advanced.quantize_outputs);
    read(object, "inplace_statistics", advanced.inplace_statistics);
    read(object, "disable_channel_alignment", advanced.disable_channel_alignment);
    read(object, "disable_bias_correction", advanced.disable_bias_correction);
    read(object, "batchwise_statistics", advanced.batchwise_statistics);
    read(object, "quantizer_propagation_rule", propagation_rule_names(), advanced.quantizer_propagation_rule);
    read_params(object, "activations_quantization_params", advanced.activations_quantization_params);
    read_params(object, "weights_quantization_params", advanced.weights_quantization_params);
    read_estimator(object, "activations_range_estimator_params", advanced.activations_range_estimator_params);
    read_estimator(object, "weights_range_estimator_params", advanced.weights_range_estimator_params);
    if (object.contains("bias_correction_params")) {
      const json& source = object.at("bias_correction_params");
      read(source, "apply_for_all_nodes", advanced.bias_correction_params.apply_for_all_nodes);
      read(source, "threshold", advanced.bias_correction_params.threshold);
      read(source, "reference", kReferences, advanced.bias_correction_params.reference);
      read(source, "smallest_shift", advanced.bias_correction_params.smallest_shift);
    }
    if (object.contains("smooth_quant_alphas")) {
      read(object.at("smooth_quant_alphas"), "convolution", advanced.smooth_quant_alphas.convolution);
      read(object.at("smooth_quant_alphas"), "matmul", advanced.smooth_quant_alphas.matmul);
    }
    read(object, "smooth_quant_alpha", advanced.smooth_quant_alpha);
    if (!object.contains("backend_params")) return;
    for (const auto& [key, value] : object.at("backend_params").items()) {
      advanced.backend_params[key] = value.is_string() ? value.get<std::string>() : value.dump();
    }
  }

  static void read_params(const json& object, const char* key, QuantizationParameters& params) {
    if (!object.contains(key)) return;
    const json& source = object.at(key);
    read(source, "num_bits", params.num_bits);
    read(source, "mode", kModes, params.mode);
    read(source, "signedness_to_force", params.signedness_to_force);
    read(source, "per_channel", params.per_channel);
    read(source, "narrow_range", params.narrow_range);
    read(source, "destination_type", kDestinations, params.destination_type);
  }

  static void read_collector(const json& object, const char* key, StatisticsCollectorParameters& collector) {
    if (!object.contains(key)) return;
    const json& source = object.at(key);
    read(source, "statistics_type", kStatistics, collector.statistics_type);
    read(source, "aggregator_type", kAggregators, collector.aggregator_type);
    read(source, "clipping_value", collector.clipping_value);
    read(source, "quantile_outlier_prob", collector.quantile_outlier_prob);
  }

  void read_estimator(const json& object, const char* key, RangeEstimatorParameters& estimator) const {
    if (!object.contains(key)) return;
    const json& source = object.at(key);
    if (!source.is_string()) {
      read_collector(source, "min", estimator.min);
      read_collector(source, "max", estimator.max);
      return;
    }
    const auto found = range_estimator_names().find(source.get<std::string>());
    if (found == range_estimator_names().end()) {
      refuse(fmt::format("compression.advanced_parameters.{}", key), fmt::format("{} is not allowed", source.dump()),
             fmt::format("use an object with min and max, or {}",
                         fmt::join(names_of_values(range_estimator_names()), ", ")));
    }
    estimator = found->second;
  }

  /// The keys of NNCF's configuration files.
  void read_nncf(const json& compression) {
    auto& advanced = options_.advanced_parameters;
    const json own = compression.value("advanced_parameters", json::object());
    for (const char* key : {"overflow_fix", "quantize_outputs"}) {
      require_one(compression.contains(key), own.contains(key), fmt::format("compression.{}", key),
                  fmt::format("advanced_parameters.{}", key));
    }
    read(compression, "overflow_fix", overflow_fix_names(), advanced.overflow_fix);
    read(compression, "quantize_outputs", advanced.quantize_outputs);
    read_group(compression, "activations", advanced.activations_quantization_params);
    read_group(compression, "weights", advanced.weights_quantization_params);
    read_scopes(compression);
    if (!compression.contains("initializer") || !compression.at("initializer").contains("range")) return;
    const json& range = compression.at("initializer").at("range");
    if (range.is_object()) return read_range(range, compression, "initializer.range", true, true);
    for (size_t i = 0; i < range.size(); ++i) {
      const bool weights = range[i].at("target_quantizer_group") == "weights";
      read_range(range[i], compression, fmt::format("initializer.range[{}]", i), !weights, weights);
    }
  }

  void read_group(const json& compression, const std::string& group, QuantizationParameters& params) const {
    if (!compression.contains(group)) return;
    const std::string own = group + "_quantization_params";
    require_one(true, compression.value("advanced_parameters", json::object()).contains(own), "compression." + group,
                "advanced_parameters." + own);
    const json& source = compression.at(group);
    read(source, "bits", params.num_bits);
    read(source, "mode", kModes, params.mode);
    read(source, "signed", params.signedness_to_force);
    read(source, "per_channel", params.per_channel);
  }

  /// Names, and patterns after "{re}". NNCF searches such a pattern anywhere in the name (common/utils/helpers.py,
  /// matches_any), whereas those of an ignored scope match from the start.
  void read_scopes(const json& compression) {
    if (!compression.contains("ignored_scopes")) return;
    require_one(true, compression.contains("ignored_scope"), "compression.ignored_scopes", "ignored_scope");
    const json& given = compression.at("ignored_scopes");
    const json scopes = given.is_array() ? given : json::array({given});
    const std::string prefix = "{re}";
    for (const auto& entry : scopes) {
      const auto scope = entry.get<std::string>();
      if (scope.compare(0, prefix.size(), prefix) == 0) {
        options_.ignored_scope.patterns.push_back(fmt::format(".*(?:{})", scope.substr(prefix.size())));
      } else {
        options_.ignored_scope.names.push_back(scope);
      }
    }
  }

  void read_range(const json& range, const json& compression, const std::string& path, bool activations, bool weights) {
    auto& advanced = options_.advanced_parameters;
    const json own = compression.value("advanced_parameters", json::object());
    const std::string type = range.value("type", "");
    if (range.contains("params") && type != "mean_percentile") {
      refuse("compression." + path + ".params", "only the type mean_percentile has percentiles");
    }
    if (range.contains("num_init_samples")) {
      require_one(true, compression.contains("subset_size"), "compression." + path + ".num_init_samples",
                  "subset_size");
      const auto samples = range.at("num_init_samples").get<int64_t>();
      options_.subset_size = (samples + batch_size_ - 1) / batch_size_;
    }
    if (type.empty()) return;
    const auto estimator = estimator_of(type, range.value("params", json::object()));
    const auto apply = [&](const std::string& group, RangeEstimatorParameters& target) {
      const std::string key = group + "_range_estimator_params";
      require_one(true, own.contains(key), "compression." + path + ".type", "advanced_parameters." + key);
      target = estimator;
    };
    if (activations) apply("activations", advanced.activations_range_estimator_params);
    if (weights) apply("weights", advanced.weights_range_estimator_params);
  }

  /// The initializers of NNCF's configuration files as range estimators. Percentiles are shares of 100; their defaults
  /// are those of nncf/config/schemata/defaults.py.
  static RangeEstimatorParameters estimator_of(const std::string& type, const json& params) {
    if (type == "mean_min_max") return RangeEstimatorParameters::mean_minmax();
    if (type != "mean_percentile") return RangeEstimatorParameters::minmax();
    auto estimator = RangeEstimatorParameters::mean_quantile();
    estimator.min.quantile_outlier_prob = params.value("min_percentile", 0.1) / 100;
    estimator.max.quantile_outlier_prob = 1 - params.value("max_percentile", 99.9) / 100;
    return estimator;
  }

  const json& document_;
  int64_t batch_size_;
  std::string place_;
  QuantizeOptions options_;
};

json parsed(const std::string& text, const std::string& place) {
  try {
    return parse_json<json>(text, /*ignore_comments=*/true);
  } catch (const JsonFault& fault) {
    throw Error(ErrorCode::kInvalidArgument, fmt::format("this is no JSON that can be used: {}", fault.what()), place);
  }
}

}  // namespace

QuantizeOptions quantize_options_from_json(const std::string& text, int64_t batch_size, const std::string& place) {
  json document = parsed(text, place);
  if (document.is_object() && document.contains("compression") && document.at("compression").is_array()) {
    if (document.at("compression").size() != 1) {
      throw Error(ErrorCode::kInvalidArgument, "compression: an array of algorithms must hold exactly one", place,
                  "keep the object whose algorithm is quantization");
    }
    document["compression"] = json(document.at("compression").at(0));
  }
  check_schema(quantize_config_schema(), document, place);
  return ConfigReader(document, std::max<int64_t>(batch_size, 1), place).options();
}

QuantizeOptions read_quantize_config(const std::string& path, int64_t batch_size) {
  std::ifstream file(path);
  std::stringstream text;
  if (!file || !(text << file.rdbuf())) {
    throw Error(ErrorCode::kInvalidArgument, "the configuration cannot be read", path, "check the path");
  }
  return quantize_options_from_json(text.str(), batch_size, path);
}

}  // namespace tsquant

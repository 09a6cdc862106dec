#include <fmt/format.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "flows/json_schema.h"
#include "io/json_text.h"
#include "options/tables.h"
#include "tsquant/error.h"
#include "tsquant/quantize_config.h"

namespace tsquant {

namespace {

using nlohmann::json;

/// Reads one configuration; keeps where it came from for messages.
class ConfigReader {
 public:
  ConfigReader(const json& document, int64_t batch_size, std::string place)
      : document_(document), batch_size_(batch_size), place_(std::move(place)) {}

  QuantizeOptions options() {
    const json& compression = document_.at("compression");
    for (const auto& row : fields<QuantizeOptions>()) {
      const json& object = row.name == "target_device" ? document_ : compression;  // where NNCF's files have it
      if (object.contains(row.name)) set(row, object.at(row.name));
    }
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

  void set(const Field<QuantizeOptions>& row, const json& value) {
    try {
      row.set(options_, value);
    } catch (const Error& error) {  // words that the schema leaves to the option
      const std::string outer = row.name == error.place() ? "" : row.name + ".";
      refuse(fmt::format("compression.{}{}", outer, error.place()), error.message(), error.advice());
    }
  }

  /// The keys of NNCF's configuration files.
  void read_nncf(const json& compression) {
    auto& advanced = options_.advanced_parameters;
    const json own = compression.value("advanced_parameters", json::object());
    for (const auto& row : fields<AdvancedQuantizationParameters>()) {
      if (nncf_outer_keys().count(row.name) == 0 || !compression.contains(row.name)) continue;
      require_one(true, own.contains(row.name), "compression." + row.name, "advanced_parameters." + row.name);
      row.set(advanced, compression.at(row.name));
    }
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
    for (const auto& row : fields<QuantizationParameters>()) {
      const auto key = nncf_group_keys().find(row.name);
      if (key != nncf_group_keys().end() && source.contains(key->second)) row.set(params, source.at(key->second));
    }
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

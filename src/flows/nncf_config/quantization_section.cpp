#include "flows/nncf_config/quantization_section.h"

#include <fmt/format.h>

#include <algorithm>

#include "flows/nncf_config/config_schema.h"
#include "flows/nncf_config/scope_names.h"
#include "flows/nncf_config/sections.h"
#include "options/tables.h"
#include "tsquant/error.h"

namespace tsquant {

namespace {

using nlohmann::json;

/// Percentiles are shares of 100; their defaults are those of nncf/config/schemata/defaults.py.
RangeEstimatorParameters percentiles_of(const json& params) {
  auto estimator = RangeEstimatorParameters::mean_quantile();
  estimator.min.quantile_outlier_prob = params.value("min_percentile", 0.1) / 100;
  estimator.max.quantile_outlier_prob = 1 - params.value("max_percentile", 99.9) / 100;
  return estimator;
}

/// The initializers of NNCF's configuration files as range estimators (nncf/torch/quantization/init_range.py). There is
/// none like "threesigma", for which the default of each tensor holds; "percentile" takes its quantiles of each sample
/// instead of all values (`config_warnings` says so).
RangeEstimatorParameters estimator_of(const std::string& type, const json& params, bool weights) {
  if (type == "min_max") return RangeEstimatorParameters::minmax();
  if (type == "mean_min_max") return RangeEstimatorParameters::mean_minmax();
  if (type == "threesigma") return {};
  // Extremes over everything, but of activations the mean over samples.
  if (type == "mixed_min_max") {
    return weights ? RangeEstimatorParameters::minmax() : RangeEstimatorParameters::mean_minmax();
  }
  return percentiles_of(params);
}

/// Reads the section of quantization; keeps where it came from for messages.
class SectionReader {
 public:
  SectionReader(const json& document, int64_t batch_size, std::string place)
      : document_(document),
        section_(quantization_section(document, place)),
        given_(*section_.content),
        batch_size_(batch_size),
        place_(std::move(place)) {}

  QuantizeOptions options() {
    for (const auto& row : fields<QuantizeOptions>()) {
      if (row.name != "target_device" && given_.contains(row.name)) set(row, given_.at(row.name));
    }
    read_target_device();
    read_outer_keys();
    read_group("activations", options_.advanced_parameters.activations_quantization_params);
    read_group("weights", options_.advanced_parameters.weights_quantization_params);
    read_scopes();
    read_ranges();
    leave_out_overflow_fix();
    return options_;
  }

 private:
  /// @param key inside of the section
  [[noreturn]] void refuse(const std::string& key, const std::string& message, const std::string& advice = "") const {
    throw Error(ErrorCode::kInvalidArgument, fmt::format("{}.{}: {}", section_.path, key, message), place_, advice);
  }

  /// A value has one place: NNCF's key or the argument of the same meaning.
  void require_one(bool other_given, const std::string& key, const std::string& other) const {
    if (other_given) refuse(key, fmt::format("{}.{} gives this value too", section_.path, other), "keep one of them");
  }

  bool in_advanced(const std::string& name) const {
    return given_.value("advanced_parameters", json::object()).contains(name);
  }

  void set(const Field<QuantizeOptions>& row, const json& value) {
    try {
      row.set(options_, value);
    } catch (const Error& error) {  // words that the schema leaves to the option
      const std::string outer = row.name == error.place() ? "" : row.name + ".";
      refuse(outer + error.place(), error.message(), error.advice());
    }
  }

  /// Stands at the top. NNCF's device TRIAL has no table of hardware; the table of all devices stands for it.
  void read_target_device() {
    const std::string device = document_.value("target_device", "ANY");
    options_.target_device = *find_word(words<TargetDevice>(), device == "TRIAL" ? "ANY" : device);
  }

  void read_outer_keys() {
    for (const auto& row : fields<AdvancedQuantizationParameters>()) {
      if (nncf_outer_keys().count(row.name) == 0 || !given_.contains(row.name)) continue;
      require_one(in_advanced(row.name), row.name, "advanced_parameters." + row.name);
      row.set(options_.advanced_parameters, given_.at(row.name));
    }
  }

  void read_group(const std::string& group, QuantizationParameters& params) const {
    if (!given_.contains(group)) return;
    const std::string own = group + "_quantization_params";
    require_one(in_advanced(own), group, "advanced_parameters." + own);
    const json& source = given_.at(group);
    for (const auto& row : fields<QuantizationParameters>()) {
      const auto key = nncf_group_keys().find(row.name);
      if (key != nncf_group_keys().end() && source.contains(key->second)) row.set(params, source.at(key->second));
    }
  }

  /// Those at the top hold for all algorithms.
  void read_scopes() {
    if (given_.contains("validate_scopes")) {
      require_one(given_.contains("ignored_scope"), "validate_scopes", "ignored_scope");
      options_.ignored_scope.validate = given_.at("validate_scopes");
    }
    if (given_.contains("ignored_scopes")) {
      require_one(given_.contains("ignored_scope"), "ignored_scopes", "ignored_scope");
      add_scopes(given_.at("ignored_scopes"), options_.ignored_scope);
    }
    if (document_.contains("ignored_scopes")) {
      add_scopes(document_.at("ignored_scopes"), options_.ignored_scope);
    }
  }

  /// NNCF's training has half the range of asymmetric weights too; quantization after training refuses that, in NNCF as
  /// here. A file that does not ask for the fix gets none then.
  void leave_out_overflow_fix() {
    auto& advanced = options_.advanced_parameters;
    const bool asymmetric = advanced.weights_quantization_params.mode == QuantizationScheme::kAsymmetric;
    if (asymmetric && !advanced.overflow_fix) advanced.overflow_fix = OverflowFix::kDisable;
  }

  void read_ranges() {
    if (!given_.contains("initializer") || !given_.at("initializer").contains("range")) return;
    const json& range = given_.at("initializer").at("range");
    if (range.is_object()) return read_range(range, "initializer.range");
    for (size_t i = 0; i < range.size(); ++i) read_range(range[i], fmt::format("initializer.range[{}]", i));
  }

  void read_range(const json& range, const std::string& key) {
    if (!holds_for_all_operators(range)) return;
    const std::string type = range.value("type", "");
    if (range.contains("params") && type != "mean_percentile" && type != "percentile") {
      refuse(key + ".params", "only the types mean_percentile and percentile have percentiles");
    }
    read_samples(range, key);
    if (type.empty()) return;
    const std::string group = range.value("target_quantizer_group", "");
    auto& advanced = options_.advanced_parameters;
    if (group != "weights") set_estimator(range, key, "activations", advanced.activations_range_estimator_params);
    if (group != "activations") set_estimator(range, key, "weights", advanced.weights_range_estimator_params);
  }

  /// The largest number of several, as in NNCF; 0, which leaves the ranges to training there, changes nothing.
  void read_samples(const json& range, const std::string& key) {
    const auto samples = range.value("num_init_samples", int64_t{0});
    if (samples == 0) return;
    require_one(given_.contains("subset_size"), key + ".num_init_samples", "subset_size");
    largest_ = std::max(largest_, samples);
    options_.subset_size = (largest_ - 1) / batch_size_ + 1;
  }

  void set_estimator(const json& range, const std::string& key, const std::string& group,
                     RangeEstimatorParameters& target) const {
    const std::string own = group + "_range_estimator_params";
    require_one(in_advanced(own), key + ".type", "advanced_parameters." + own);
    target = estimator_of(range.at("type"), range.value("params", json::object()), group == "weights");
  }

  const json& document_;
  ConfigSection section_;
  const json& given_;  ///< the section
  int64_t batch_size_, largest_ = 0;
  std::string place_;
  QuantizeOptions options_;
};

}  // namespace

bool names_everything(const json& scopes) { return list_of_scopes(scopes) == std::vector<std::string>{"{re}.*"}; }

bool holds_for_all_operators(const json& range) {
  if (!range.value("ignored_scopes", json::array()).empty()) return false;
  return !range.contains("target_scopes") || names_everything(range.at("target_scopes"));
}

QuantizeOptions read_quantization(const json& document, int64_t batch_size, const std::string& place) {
  return SectionReader(document, batch_size, place).options();
}

}  // namespace tsquant

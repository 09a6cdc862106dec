#include "quantizers/fx/fitting_types.h"

#include <fmt/format.h>

#include <utility>

#include "quantizers/fx/json_object.h"

namespace tsquant::fx {

namespace {

/// The codes that an observer uses when it is not told which.
std::pair<int64_t, int64_t> codes_of(const ObserverConfig& observer) {
  if (observer.quant_min && observer.quant_max) return {*observer.quant_min, *observer.quant_max};
  return observer.dtype == c10::kQInt8 ? std::pair<int64_t, int64_t>(-128, 127) : std::pair<int64_t, int64_t>(0, 255);
}

/// Empty when the observer obeys.
std::string violated(const ObserverConfig& observer, const DTypeWithConstraints& type, const char* what) {
  if (!type.dtype) return "";
  if (observer.dtype != *type.dtype) {
    return fmt::format("{} would be {}, not {}", what, type_name(observer.dtype), type_name(*type.dtype));
  }
  const auto [low, high] = codes_of(observer);
  if ((type.quant_min_lower_bound && low < *type.quant_min_lower_bound) ||
      (type.quant_max_upper_bound && high > *type.quant_max_upper_bound)) {
    return fmt::format("{} would have the codes {} to {}", what, low, high);
  }
  if (type.scale_min_lower_bound && observer.eps < *type.scale_min_lower_bound) {
    return fmt::format("{} may have scales below {}", what, *type.scale_min_lower_bound);
  }
  return "";
}

std::string why_not(const BackendPatternConfig& pattern, const DTypeConfig& types, const QConfig& qconfig) {
  const ObserverConfig& activation = qconfig.activation;
  if (types.is_dynamic.value_or(false) != activation.is_dynamic) {
    return activation.is_dynamic ? "it is not computed with dynamic parameters" : "it is only computed dynamically";
  }
  std::string reason = violated(activation, types.input_dtype, "its input");
  if (reason.empty() && !activation.is_dynamic) reason = violated(activation, types.output_dtype, "its result");
  const bool has_weight = pattern.input_type_to_index.count("weight") > 0 && quantizes_weight(types);
  if (reason.empty() && has_weight) reason = violated(qconfig.weight, types.weight_dtype, "its weight");
  return reason;
}

}  // namespace

std::string type_name(c10::ScalarType dtype) { return word_of(dtype_words(), dtype); }

bool quantizes_weight(const DTypeConfig& types) {
  return types.weight_dtype.dtype && *types.weight_dtype.dtype != c10::kFloat;
}

FittingTypes fitting_types(const BackendPatternConfig& pattern, const QConfig& qconfig) {
  FittingTypes result;
  for (const auto& types : pattern.dtype_configs) {
    const std::string reason = why_not(pattern, types, qconfig);
    if (reason.empty()) return {&types, ""};
    if (result.reason.empty()) result.reason = reason;
  }
  if (pattern.dtype_configs.empty()) result.reason = "the backend computes it in float";
  return result;
}

const DTypeWithConstraints* fixed_output(const BackendPatternConfig& pattern) {
  for (const auto& types : pattern.dtype_configs) {
    if (types.output_dtype.scale_exact_match) return &types.output_dtype;
  }
  return nullptr;
}

bool is_fixed_to(const ObserverConfig& observer, const DTypeWithConstraints& type) {
  return observer.type == ObserverType::kFixedQParams && observer.dtype == type.dtype &&
         observer.scale == type.scale_exact_match && observer.zero_point == type.zero_point_exact_match;
}

}  // namespace tsquant::fx

#include "tsquant/fx/backend_config.h"

#include <fmt/format.h>

#include <algorithm>
#include <tuple>

#include "quantizers/fx/object_type.h"
#include "tsquant/error.h"

namespace tsquant::fx {

namespace {

/// @throws Error kInvalidArgument
void check_pattern(const BackendPatternConfig& config) {
  constexpr const char* kFunction = "set_backend_pattern_config";
  if (config.pattern.empty()) throw Error(ErrorCode::kInvalidArgument, "an entry has no pattern", kFunction);
  for (const auto& element : config.pattern) parse_object_type(element, kFunction);
  for (const auto& types : config.dtype_configs) {
    const bool is_dynamic = types.is_dynamic.value_or(false);
    if (is_dynamic && types.output_dtype.dtype.value_or(c10::kFloat) != c10::kFloat) {
      throw Error(ErrorCode::kInvalidArgument,
                  fmt::format("{} is dynamic, but its result is quantized", fmt::join(config.pattern, ", ")), kFunction,
                  "give dynamic types the output float32");
    }
  }
}

}  // namespace

bool operator==(const DTypeWithConstraints& a, const DTypeWithConstraints& b) {
  const auto fields = [](const DTypeWithConstraints& c) {
    return std::tie(c.dtype, c.quant_min_lower_bound, c.quant_max_upper_bound, c.scale_min_lower_bound,
                    c.scale_exact_match, c.zero_point_exact_match);
  };
  return fields(a) == fields(b);
}

bool operator==(const DTypeConfig& a, const DTypeConfig& b) {
  return a.input_dtype == b.input_dtype && a.output_dtype == b.output_dtype && a.weight_dtype == b.weight_dtype &&
         a.bias_dtype == b.bias_dtype && a.is_dynamic == b.is_dynamic;
}

bool operator==(const BackendPatternConfig& a, const BackendPatternConfig& b) {
  return a.pattern == b.pattern && a.observation_type == b.observation_type && a.dtype_configs == b.dtype_configs &&
         a.num_tensor_args_to_observation_type == b.num_tensor_args_to_observation_type &&
         a.input_type_to_index == b.input_type_to_index;
}

BackendPatternConfig& BackendPatternConfig::set_pattern(std::vector<std::string> names) {
  pattern = std::move(names);
  return *this;
}

BackendPatternConfig& BackendPatternConfig::set_observation_type(ObservationType type) {
  observation_type = type;
  return *this;
}

BackendPatternConfig& BackendPatternConfig::add_dtype_config(const DTypeConfig& config) {
  dtype_configs.push_back(config);
  return *this;
}

BackendPatternConfig& BackendPatternConfig::set_dtype_configs(std::vector<DTypeConfig> configs) {
  dtype_configs = std::move(configs);
  return *this;
}

BackendPatternConfig& BackendPatternConfig::set_num_tensor_args_to_observation_type(
    std::map<int64_t, ObservationType> types) {
  num_tensor_args_to_observation_type = std::move(types);
  return *this;
}

BackendPatternConfig& BackendPatternConfig::set_input_type_to_index(std::map<std::string, int64_t> indices) {
  input_type_to_index = std::move(indices);
  return *this;
}

BackendConfig& BackendConfig::set_name(const std::string& name) {
  name_ = name;
  return *this;
}

BackendConfig& BackendConfig::set_backend_pattern_config(const BackendPatternConfig& config) {
  check_pattern(config);
  const auto known = std::find_if(configs_.begin(), configs_.end(),
                                  [&](const auto& entry) { return entry.pattern == config.pattern; });
  if (known != configs_.end()) {
    *known = config;
  } else {
    configs_.push_back(config);
  }
  return *this;
}

BackendConfig& BackendConfig::set_backend_pattern_configs(const std::vector<BackendPatternConfig>& configs) {
  for (const auto& config : configs) set_backend_pattern_config(config);
  return *this;
}

}  // namespace tsquant::fx

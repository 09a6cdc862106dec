#include <fmt/format.h>

#include "quantizers/fx/json_object.h"
#include "tsquant/fx/backend_config.h"

namespace tsquant::fx {

namespace {

const Words<ObservationType>& observation_words() {
  static const Words<ObservationType> words{
      {"OUTPUT_USE_DIFFERENT_OBSERVER_AS_INPUT", ObservationType::kOutputUseDifferentObserverAsInput},
      {"OUTPUT_SHARE_OBSERVER_WITH_INPUT", ObservationType::kOutputShareObserverWithInput},
      {"INPUT_OUTPUT_NOT_OBSERVED", ObservationType::kInputOutputNotObserved}};
  return words;
}

/// A word alone, or an object when there are constraints.
Json type_json(const DTypeWithConstraints& type) {
  Json json{{"dtype", type.dtype ? Json(word_of(dtype_words(), *type.dtype)) : Json(nullptr)}};
  const auto add = [&](const char* key, const auto& value) {
    if (value) json[key] = *value;
  };
  add("quant_min_lower_bound", type.quant_min_lower_bound);
  add("quant_max_upper_bound", type.quant_max_upper_bound);
  add("scale_min_lower_bound", type.scale_min_lower_bound);
  add("scale_exact_match", type.scale_exact_match);
  add("zero_point_exact_match", type.zero_point_exact_match);
  return json.size() == 1 ? json["dtype"] : json;
}

void read_type(const JsonObject& parent, const std::string& key, DTypeWithConstraints& type) {
  const Json* json = parent.find(key);
  if (!json || json->is_null()) return;
  c10::ScalarType dtype = c10::kFloat;
  if (json->is_string()) {
    parent.read(key, dtype, dtype_words());
    type.dtype = dtype;
    return;
  }
  const JsonObject object(*json, parent.place_of(key),
                          {"dtype", "quant_min_lower_bound", "quant_max_upper_bound", "scale_min_lower_bound",
                           "scale_exact_match", "zero_point_exact_match"});
  object.require("dtype");
  object.read("dtype", dtype, dtype_words());
  type.dtype = dtype;
  object.read("quant_min_lower_bound", type.quant_min_lower_bound);
  object.read("quant_max_upper_bound", type.quant_max_upper_bound);
  object.read("scale_min_lower_bound", type.scale_min_lower_bound);
  object.read("scale_exact_match", type.scale_exact_match);
  object.read("zero_point_exact_match", type.zero_point_exact_match);
}

Json dtypes_json(const DTypeConfig& config) {
  Json json = Json::object();
  const auto add = [&](const char* key, const DTypeWithConstraints& type) {
    if (type.dtype) json[key] = type_json(type);
  };
  add("input_dtype", config.input_dtype);
  add("output_dtype", config.output_dtype);
  add("weight_dtype", config.weight_dtype);
  if (config.bias_dtype) json["bias_dtype"] = word_of(dtype_words(), *config.bias_dtype);
  if (config.is_dynamic) json["is_dynamic"] = *config.is_dynamic;
  return json;
}

DTypeConfig read_dtypes(const Json& json, const std::string& place) {
  const JsonObject object(json, place, {"input_dtype", "output_dtype", "weight_dtype", "bias_dtype", "is_dynamic"});
  DTypeConfig config;
  read_type(object, "input_dtype", config.input_dtype);
  read_type(object, "output_dtype", config.output_dtype);
  read_type(object, "weight_dtype", config.weight_dtype);
  DTypeWithConstraints bias;
  read_type(object, "bias_dtype", bias);
  config.bias_dtype = bias.dtype;
  object.read("is_dynamic", config.is_dynamic);
  return config;
}

Json pattern_json(const BackendPatternConfig& config) {
  Json json{{"pattern", config.pattern}, {"observation_type", word_of(observation_words(), config.observation_type)}};
  json["dtype_configs"] = Json::array();
  for (const auto& types : config.dtype_configs) json["dtype_configs"].push_back(dtypes_json(types));
  for (const auto& [count, type] : config.num_tensor_args_to_observation_type) {
    json["num_tensor_args_to_observation_type"][std::to_string(count)] = word_of(observation_words(), type);
  }
  for (const auto& [name, index] : config.input_type_to_index) json["input_type_to_index"][name] = index;
  return json;
}

std::map<int64_t, ObservationType> read_counts(const JsonObject& parent) {
  std::map<int64_t, ObservationType> types;
  const std::string key = "num_tensor_args_to_observation_type";
  const Json* json = parent.find(key);
  if (!json) return types;
  const JsonObject object(*json, parent.place_of(key), {"0", "1", "2"});
  for (const int64_t count : {0, 1, 2}) {
    if (!object.find(std::to_string(count))) continue;
    object.read(std::to_string(count), types[count], observation_words());
  }
  return types;
}

std::map<std::string, int64_t> read_indices(const JsonObject& parent) {
  std::map<std::string, int64_t> indices;
  const Json* json = parent.find("input_type_to_index");
  if (!json) return indices;
  const JsonObject object(*json, parent.place_of("input_type_to_index"), {"weight", "bias"});
  for (const char* name : {"weight", "bias"}) {
    if (object.find(name)) object.read(name, indices[name]);
  }
  return indices;
}

const Json& require_list(const JsonObject& object, const std::string& key) {
  const Json& list = object.require(key);
  if (!list.is_array()) refuse_json(list, "a list", object.place_of(key));
  return list;
}

BackendPatternConfig read_pattern(const Json& json, const std::string& place) {
  const JsonObject object(
      json, place,
      {"pattern", "observation_type", "dtype_configs", "num_tensor_args_to_observation_type", "input_type_to_index"});
  BackendPatternConfig config;
  for (const auto& element : require_list(object, "pattern")) {
    if (!element.is_string()) refuse_json(element, "the name of an operator", object.place_of("pattern"));
    config.pattern.push_back(element.get<std::string>());
  }
  object.read("observation_type", config.observation_type, observation_words());
  const Json& types = require_list(object, "dtype_configs");
  for (size_t i = 0; i < types.size(); ++i) {
    config.add_dtype_config(read_dtypes(types[i], fmt::format("{}[{}]", object.place_of("dtype_configs"), i)));
  }
  config.num_tensor_args_to_observation_type = read_counts(object);
  config.input_type_to_index = read_indices(object);
  return config;
}

}  // namespace

std::string BackendConfig::to_json() const {
  Json json{{"name", name_}, {"configs", Json::array()}};
  for (const auto& config : configs_) json["configs"].push_back(pattern_json(config));
  return json.dump(2);
}

BackendConfig BackendConfig::from_json(const std::string& text) {
  const Json json = parse_json(text, "backend_config");
  const JsonObject object(json, "backend_config", {"name", "configs"});
  BackendConfig config;
  object.read("name", config.name_);
  const Json& rows = require_list(object, "configs");
  for (size_t i = 0; i < rows.size(); ++i) {
    config.set_backend_pattern_config(read_pattern(rows[i], fmt::format("backend_config.configs[{}]", i)));
  }
  return config;
}

}  // namespace tsquant::fx

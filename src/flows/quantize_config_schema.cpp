#include "flows/json_schema.h"
#include "options/tables.h"

namespace tsquant {

namespace {

using nlohmann::json;

// The keys of nncf/config/schemata/algo/quantization.py that post-training quantization uses and nncf.quantize has no
// argument for.
constexpr const char* kNncfKeys = R"json({
  "algorithm": {"enum": ["quantization"]},
  "ignored_scopes": {"type": ["string", "array"], "items": {"type": "string"}},
  "initializer": {
    "type": "object",
    "additionalProperties": false,
    "properties": {
      "range": {
        "type": ["object", "array"],
        "additionalProperties": false,
        "properties": {
          "num_init_samples": {"$ref": "#/definitions/count"},
          "type": {"$ref": "#/definitions/range_type"},
          "params": {"$ref": "#/definitions/range_params"}
        },
        "items": {
          "type": "object",
          "additionalProperties": false,
          "required": ["target_quantizer_group"],
          "properties": {
            "num_init_samples": {"$ref": "#/definitions/count"},
            "type": {"$ref": "#/definitions/range_type"},
            "params": {"$ref": "#/definitions/range_params"},
            "target_quantizer_group": {"enum": ["activations", "weights"]}
          }
        }
      }
    }
  },
  "weights": {"$ref": "#/definitions/group"},
  "activations": {"$ref": "#/definitions/group"}
})json";

constexpr const char* kDefinitions = R"json({
  "count": {"type": "integer", "minimum": 1},
  "range_type": {"enum": ["mixed_min_max", "min_max", "mean_min_max", "mean_percentile"]},
  "range_params": {
    "type": "object",
    "additionalProperties": false,
    "properties": {
      "min_percentile": {"type": "number", "minimum": 0, "maximum": 50},
      "max_percentile": {"type": "number", "minimum": 50, "maximum": 100}
    }
  }
})json";

json group_schema() {
  const auto& names = nncf_group_keys();
  json properties = json::object();
  for (const auto& row : fields<QuantizationParameters>()) {
    const auto name = names.find(row.name);
    if (name != names.end()) properties[name->second] = row.schema;
  }
  return {{"type", "object"}, {"additionalProperties", false}, {"properties", properties}};
}

json make_schema() {
  json compression = object_schema(fields<QuantizeOptions>());
  json& keys = compression.at("properties");
  const json target_device = keys.at("target_device");
  keys.erase("target_device");
  keys.update(json::parse(kNncfKeys));
  for (const auto& name : nncf_outer_keys()) {
    keys[name] = keys.at("advanced_parameters").at("properties").at(name);
  }
  compression["required"] = {"algorithm"};
  json definitions = json::parse(kDefinitions);
  definitions["group"] = group_schema();
  return {{"type", "object"},
          {"additionalProperties", false},
          {"required", {"compression"}},
          {"properties", {{"target_device", target_device}, {"compression", compression}}},
          {"definitions", definitions}};
}

}  // namespace

const std::set<std::string>& nncf_outer_keys() {
  static const std::set<std::string> keys{"overflow_fix", "quantize_outputs"};
  return keys;
}

const std::map<std::string, std::string>& nncf_group_keys() {
  static const std::map<std::string, std::string> keys{
      {"num_bits", "bits"}, {"mode", "mode"}, {"signedness_to_force", "signed"}, {"per_channel", "per_channel"}};
  return keys;
}

const json& quantize_config_schema() {
  static const json schema = make_schema();
  return schema;
}

}  // namespace tsquant

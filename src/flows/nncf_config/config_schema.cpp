#include "flows/nncf_config/config_schema.h"

#include "options/tables.h"

namespace tsquant {

namespace {

using nlohmann::json;

// The keys of nncf/config/schema.py that stand beside "compression". Others may stand there too.
constexpr const char* kTopKeys = R"json({
  "input_info": {"type": ["object", "array"]},
  "compression_lr_multiplier": {"type": "number"},
  "disable_shape_matching": {"type": "boolean"},
  "log_dir": {"type": "string"},
  "ignored_scopes": {"$ref": "#/definitions/scopes"},
  "target_scopes": {"$ref": "#/definitions/scopes"},
  "accuracy_aware_training": {
    "type": "object",
    "properties": {
      "mode": {"enum": ["adaptive_compression_level", "early_exit"]},
      "params": {
        "type": "object",
        "properties": {
          "maximal_relative_accuracy_degradation": {"type": "number", "minimum": 0},
          "maximal_absolute_accuracy_degradation": {"type": "number", "minimum": 0}
        }
      }
    }
  }
})json";

// The keys of nncf/config/schemata/algo/quantization.py that nncf.quantize has no argument for.
constexpr const char* kSectionKeys = R"json({
  "ignored_scopes": {"$ref": "#/definitions/scopes"},
  "target_scopes": {"$ref": "#/definitions/scopes"},
  "validate_scopes": {"type": "boolean"},
  "quantize_inputs": {"type": "boolean"},
  "export_to_onnx_standard_ops": {"type": "boolean"},
  "compression_lr_multiplier": {"type": "number"},
  "scope_overrides": {
    "type": "object",
    "additionalProperties": false,
    "properties": {
      "weights": {"type": "object", "additionalProperties": {"$ref": "#/definitions/override"}},
      "activations": {"type": "object", "additionalProperties": {"$ref": "#/definitions/override"}}
    }
  },
  "initializer": {
    "type": "object",
    "additionalProperties": false,
    "properties": {
      "range": {"$ref": "#/definitions/range"},
      "batchnorm_adaptation": {
        "type": "object",
        "additionalProperties": false,
        "properties": {"num_bn_adaptation_samples": {"type": "integer", "minimum": 0}}
      },
      "precision": {"$ref": "#/definitions/precision"}
    }
  },
  "params": {
    "type": "object",
    "additionalProperties": false,
    "properties": {
      "batch_multiplier": {"type": "number"},
      "activations_quant_start_epoch": {"type": "number"},
      "weights_quant_start_epoch": {"type": "number"},
      "lr_poly_drop_start_epoch": {"type": "number"},
      "lr_poly_drop_duration_epochs": {"type": "number"},
      "disable_wd_start_epoch": {"type": "number"},
      "base_lr": {"type": "number"},
      "base_wd": {"type": "number"}
    }
  },
  "weights": {"$ref": "#/definitions/weights"},
  "activations": {"$ref": "#/definitions/activations"}
})json";

constexpr const char* kDefinitions = R"json({
  "scopes": {"type": ["string", "array"], "items": {"type": "string"}},
  "range": {
    "type": ["object", "array"],
    "additionalProperties": false,
    "properties": {
      "num_init_samples": {"$ref": "#/definitions/samples"},
      "type": {"$ref": "#/definitions/range_type"},
      "params": {"$ref": "#/definitions/range_params"}
    },
    "items": {
      "type": "object",
      "additionalProperties": false,
      "properties": {
        "num_init_samples": {"$ref": "#/definitions/samples"},
        "type": {"$ref": "#/definitions/range_type"},
        "params": {"$ref": "#/definitions/range_params"},
        "target_quantizer_group": {"enum": ["activations", "weights"]},
        "ignored_scopes": {"$ref": "#/definitions/scopes"},
        "target_scopes": {"$ref": "#/definitions/scopes"},
        "validate_scopes": {"type": "boolean"}
      }
    }
  },
  "samples": {"type": "integer", "minimum": 0},
  "range_type": {"enum": ["mixed_min_max", "min_max", "mean_min_max", "threesigma", "percentile", "mean_percentile"]},
  "range_params": {
    "type": "object",
    "additionalProperties": false,
    "properties": {
      "min_percentile": {"type": "number", "minimum": 0, "maximum": 50},
      "max_percentile": {"type": "number", "minimum": 50, "maximum": 100}
    }
  },
  "precision": {
    "type": "object",
    "additionalProperties": false,
    "properties": {
      "type": {"enum": ["hawq", "autoq", "manual"]},
      "bits": {"type": "array", "items": {"type": "number"}},
      "num_data_points": {"type": "number"},
      "iter_number": {"type": "number"},
      "tolerance": {"type": "number"},
      "compression_ratio": {"type": "number"},
      "eval_subset_ratio": {"type": "number"},
      "warmup_iter_number": {"type": "number"},
      "bitwidth_per_scope": {
        "type": "array",
        "items": {"type": "array", "items": [{"type": "number"}, {"type": "string"}]}
      },
      "traces_per_layer_path": {"type": "string"},
      "dump_init_precision_data": {"type": "boolean"},
      "bitwidth_assignment_mode": {"enum": ["strict", "liberal"]}
    }
  }
})json";

json object_of_keys(const json& properties) {
  return {{"type", "object"}, {"additionalProperties", false}, {"properties", properties}};
}

/// "bits", "mode", "signed" and "per_channel" with the limits of the options that they are.
json quantizer_keys() {
  json properties = json::object();
  for (const auto& row : fields<QuantizationParameters>()) {
    const auto name = nncf_group_keys().find(row.name);
    if (name != nncf_group_keys().end()) properties[name->second] = row.schema;
  }
  return properties;
}

/// What stands in "weights" and "activations", and in the overrides of single scopes.
void add_quantizers(json& definitions) {
  json group = quantizer_keys(), override_keys = quantizer_keys();
  override_keys["initializer"] = object_of_keys({{"range", {{"$ref", "#/definitions/range"}}}});
  definitions["override"] = object_of_keys(override_keys);
  const json scopes{{"$ref", "#/definitions/scopes"}}, truth{{"type", "boolean"}};
  group.update(
      {{"ignored_scopes", scopes}, {"target_scopes", scopes}, {"validate_scopes", truth}, {"logarithm_scale", truth}});
  definitions["weights"] = object_of_keys(group);
  group["unified_scale_ops"] = {{"type", "array"}, {"items", {{"type", "array"}, {"items", {{"type", "string"}}}}}};
  definitions["activations"] = object_of_keys(group);
}

std::vector<std::string> algorithm_names(bool of_quantization) {
  std::vector<std::string> names;
  for (const auto& [name, quantizes] : nncf_algorithms()) {
    if (quantizes || !of_quantization) names.push_back(name);
  }
  return names;
}

/// A section of quantization: the keys of QuantizeOptions and those of NNCF's.
json quantization_schema() {
  json section = object_schema(fields<QuantizeOptions>());
  json& keys = section.at("properties");
  keys.erase("target_device");  // stands at the top
  keys.update(json::parse(kSectionKeys));
  keys["algorithm"] = {{"enum", algorithm_names(true)}};
  for (const auto& name : nncf_outer_keys()) {
    keys[name] = keys.at("advanced_parameters").at("properties").at(name);
  }
  return section;
}

/// A section of any algorithm; those of others than quantization are not looked into.
json section_schema() {
  const json algorithm{{"algorithm", {{"enum", algorithm_names(true)}}}};
  return {{"type", "object"},
          {"required", {"algorithm"}},
          {"properties", {{"algorithm", {{"enum", algorithm_names(false)}}}}},
          {"if", {{"type", "object"}, {"required", {"algorithm"}}, {"properties", algorithm}}},
          {"then", {{"$ref", "#/definitions/quantization"}}}};
}

json target_device_schema() {
  for (const auto& row : fields<QuantizeOptions>()) {
    if (row.name != "target_device") continue;
    json schema = row.schema;
    schema.at("enum").push_back("TRIAL");
    return schema;
  }
  return {};
}

json make_schema() {
  json definitions = json::parse(kDefinitions);
  add_quantizers(definitions);
  definitions["quantization"] = quantization_schema();
  definitions["section"] = section_schema();
  json sections = section_schema();
  sections["type"] = {"object", "array"};
  sections["items"] = {{"$ref", "#/definitions/section"}};
  json properties = json::parse(kTopKeys);
  properties["target_device"] = target_device_schema();
  properties["compression"] = sections;
  properties["weight_compression"] = object_schema(fields<CompressWeightsOptions>());
  properties["accuracy_control"] = object_schema(fields<AccuracyControlOptions>());
  return {{"$schema", "http://json-schema.org/draft-07/schema#"},
          {"type", "object"},
          {"properties", properties},
          {"definitions", definitions}};
}

}  // namespace

const std::map<std::string, bool>& nncf_algorithms() {
  static const std::map<std::string, bool> algorithms{{"quantization", true},       {"experimental_quantization", true},
                                                      {"filter_pruning", false},    {"magnitude_sparsity", false},
                                                      {"rb_sparsity", false},       {"const_sparsity", false},
                                                      {"movement_sparsity", false}, {"knowledge_distillation", false},
                                                      {"bootstrapNAS", false}};
  return algorithms;
}

const std::set<std::string>& nncf_outer_keys() {
  static const std::set<std::string> keys{"overflow_fix", "quantize_outputs"};
  return keys;
}

const std::map<std::string, std::string>& nncf_group_keys() {
  static const std::map<std::string, std::string> keys{
      {"num_bits", "bits"}, {"mode", "mode"}, {"signedness_to_force", "signed"}, {"per_channel", "per_channel"}};
  return keys;
}

const json& config_schema() {
  static const json schema = make_schema();
  return schema;
}

}  // namespace tsquant

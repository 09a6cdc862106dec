#include "flows/json_schema.h"

namespace tsquant {

namespace {

// The NNCF half follows the keys of nncf/config/schemata/algo/quantization.py that post-training quantization uses; the
// other half has the names of nncf.quantize's arguments.
constexpr const char* kSchema = R"json({
  "type": "object",
  "additionalProperties": false,
  "required": ["compression"],
  "properties": {
    "target_device": {"enum": ["ANY", "CPU", "GPU", "NPU", "CPU_SPR"]},
    "compression": {
      "type": "object",
      "additionalProperties": false,
      "required": ["algorithm"],
      "properties": {
        "algorithm": {"enum": ["quantization"]},
        "preset": {"enum": ["performance", "mixed"]},
        "overflow_fix": {"$ref": "#/definitions/overflow_fix"},
        "quantize_outputs": {"type": "boolean"},
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
        "activations": {"$ref": "#/definitions/group"},
        "mode": {"enum": ["fp8_e4m3", "fp8_e5m2"]},
        "model_type": {"enum": ["transformer"]},
        "subset_size": {"$ref": "#/definitions/count"},
        "fast_bias_correction": {"type": "boolean"},
        "form": {"enum": ["decomposed", "reference", "fake_quantize", "lowered"]},
        "engine": {"type": "string"},
        "cost": {"enum": ["table", "measure", "off"]},
        "ignored_scope": {
          "type": "object",
          "additionalProperties": false,
          "properties": {
            "names": {"$ref": "#/definitions/strings"},
            "patterns": {"$ref": "#/definitions/strings"},
            "types": {"$ref": "#/definitions/strings"},
            "subgraphs": {
              "type": "array",
              "items": {
                "type": "object",
                "additionalProperties": false,
                "required": ["inputs", "outputs"],
                "properties": {
                  "inputs": {"$ref": "#/definitions/strings"},
                  "outputs": {"$ref": "#/definitions/strings"}
                }
              }
            },
            "validate": {"type": "boolean"}
          }
        },
        "advanced_parameters": {
          "type": "object",
          "additionalProperties": false,
          "properties": {
            "overflow_fix": {"$ref": "#/definitions/overflow_fix"},
            "quantize_outputs": {"type": "boolean"},
            "inplace_statistics": {"type": "boolean"},
            "disable_channel_alignment": {"type": "boolean"},
            "disable_bias_correction": {"type": "boolean"},
            "batchwise_statistics": {"type": "boolean"},
            "quantizer_propagation_rule": {
              "enum": ["do_not_merge_branches", "merge_if_all_branches_same", "merge_with_potential_requantization",
                       "merge_all_in_one"]
            },
            "activations_quantization_params": {"$ref": "#/definitions/quantization_params"},
            "weights_quantization_params": {"$ref": "#/definitions/quantization_params"},
            "activations_range_estimator_params": {"$ref": "#/definitions/range_estimator"},
            "weights_range_estimator_params": {"$ref": "#/definitions/range_estimator"},
            "bias_correction_params": {
              "type": "object",
              "additionalProperties": false,
              "properties": {
                "apply_for_all_nodes": {"type": "boolean"},
                "threshold": {"type": "number", "minimum": 0},
                "reference": {"enum": ["simulated", "collected"]},
                "smallest_shift": {"type": "number", "minimum": 0}
              }
            },
            "smooth_quant_alphas": {
              "type": "object",
              "additionalProperties": false,
              "properties": {
                "convolution": {"type": "number", "maximum": 1},
                "matmul": {"type": "number", "maximum": 1}
              }
            },
            "smooth_quant_alpha": {"type": "number", "maximum": 1},
            "backend_params": {
              "type": "object",
              "additionalProperties": false,
              "properties": {
                "compress_weights": {"type": ["string", "boolean"]},
                "form": {"type": "string"},
                "engine": {"type": "string"}
              }
            }
          }
        }
      }
    }
  },
  "definitions": {
    "count": {"type": "integer", "minimum": 1},
    "strings": {"type": "array", "items": {"type": "string"}},
    "overflow_fix": {"enum": ["enable", "first_layer_only", "disable"]},
    "range_type": {"enum": ["mixed_min_max", "min_max", "mean_min_max", "mean_percentile"]},
    "range_params": {
      "type": "object",
      "additionalProperties": false,
      "properties": {
        "min_percentile": {"type": "number", "minimum": 0, "maximum": 50},
        "max_percentile": {"type": "number", "minimum": 50, "maximum": 100}
      }
    },
    "group": {
      "type": "object",
      "additionalProperties": false,
      "properties": {
        "mode": {"enum": ["symmetric", "asymmetric"]},
        "bits": {"type": "integer", "minimum": 2, "maximum": 8},
        "signed": {"type": "boolean"},
        "per_channel": {"type": "boolean"}
      }
    },
    "quantization_params": {
      "type": "object",
      "additionalProperties": false,
      "properties": {
        "num_bits": {"type": "integer", "minimum": 2, "maximum": 8},
        "mode": {"enum": ["symmetric", "asymmetric"]},
        "signedness_to_force": {"type": "boolean"},
        "per_channel": {"type": "boolean"},
        "narrow_range": {"type": "boolean"},
        "destination_type": {"enum": ["f8e4m3", "f8e5m2"]}
      }
    },
    "collector": {
      "type": "object",
      "additionalProperties": false,
      "properties": {
        "statistics_type": {"enum": ["min", "max", "abs_max", "quantile", "abs_quantile", "mean", "raw"]},
        "aggregator_type": {
          "enum": ["min", "max", "mean", "median", "mean_no_outliers", "median_no_outliers", "histogram"]
        },
        "clipping_value": {"type": "number", "exclusiveMinimum": 0},
        "quantile_outlier_prob": {"type": "number", "minimum": 0, "maximum": 0.5}
      }
    },
    "range_estimator": {
      "type": ["string", "object"],
      "additionalProperties": false,
      "properties": {
        "min": {"$ref": "#/definitions/collector"},
        "max": {"$ref": "#/definitions/collector"}
      }
    }
  }
})json";

}  // namespace

const nlohmann::json& quantize_config_schema() {
  static const auto schema = nlohmann::json::parse(kSchema);
  return schema;
}

}  // namespace tsquant

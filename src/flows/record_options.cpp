#include "flows/record_options.h"

#include <fmt/format.h>

#include <set>

#include "calibration/fingerprint.h"
#include "flows/check_options.h"
#include "flows/option_names.h"
#include "tsquant/openvino_quantizer.h"
#include "tsquant/x86_inductor_quantizer.h"
#include "tsquant/xnnpack_quantizer.h"

namespace tsquant {

namespace {

const char* truth(bool value) { return value ? "true" : "false"; }

template <typename Value>
std::string name_of(const OptionNames<Value>& names, const Value& wanted) {
  for (const auto& [name, value] : names) {
    if (value == wanted) return name;
  }
  return "unknown";
}

std::string joined(const std::vector<std::string>& parts, const char* empty) {
  return parts.empty() ? empty : fmt::format("{}", fmt::join(parts, ", "));
}

/// "default", the name of a ready-made set, or all fields.
std::string text_of(const RangeEstimatorParameters& estimator) {
  if (!is_set(estimator)) return "default";
  const std::string text = describe(estimator);
  for (const auto& [name, set] : range_estimator_names()) {
    if (describe(set) == text) return name;
  }
  return text;
}

std::string text_of(const QuantizationParameters& params) {
  std::vector<std::string> parts;
  if (params.num_bits) parts.push_back(fmt::format("num_bits {}", *params.num_bits));
  if (params.mode) {
    parts.emplace_back(*params.mode == QuantizationMode::kSymmetric ? "mode symmetric" : "mode asymmetric");
  }
  if (params.signedness_to_force) parts.push_back(fmt::format("signed {}", *params.signedness_to_force));
  if (params.per_channel) parts.push_back(fmt::format("per_channel {}", *params.per_channel));
  if (params.narrow_range) parts.push_back(fmt::format("narrow_range {}", *params.narrow_range));
  if (params.destination_type) {
    parts.push_back("destination_type " + to_string(format_of(*params.destination_type)));
  }
  return joined(parts, "default");
}

std::string text_of(const IgnoredScope& scope) {
  std::vector<std::string> parts;
  const auto add = [&](const char* kind, const std::vector<std::string>& rules) {
    for (const auto& rule : rules) parts.push_back(fmt::format("{} {}", kind, rule));
  };
  add("name", scope.names);
  add("pattern", scope.patterns);
  add("type", scope.types);
  for (const auto& subgraph : scope.subgraphs) {
    parts.push_back(fmt::format("subgraph {}:{}", fmt::join(subgraph.inputs, ","), fmt::join(subgraph.outputs, ",")));
  }
  return joined(parts, "none");
}

std::string text_of(const BiasCorrectionParameters& params) {
  const char* reference = !params.reference                                ? "default"
                          : *params.reference == BiasReference::kSimulated ? "simulated"
                                                                           : "collected";
  const auto number = [](const c10::optional<double>& value) {
    return value ? fmt::format("{:g}", *value) : std::string("default");
  };
  return fmt::format("apply_for_all_nodes {}, threshold {}, reference {}, smallest_shift {}",
                     params.apply_for_all_nodes, number(params.threshold), reference, number(params.smallest_shift));
}

void record_openvino(Report& report, const OpenVINOQuantizerOptions& options) {
  auto& recorded = report.options;
  const auto preset =
      options.preset.value_or(options.model_type ? QuantizationPreset::kMixed : QuantizationPreset::kPerformance);
  recorded["mode"] = options.mode ? name_of(mode_names(), *options.mode) : "int8";
  if (!options.mode) recorded["preset"] = name_of(preset_names(), preset);
  recorded["model_type"] = options.model_type ? "transformer" : "none";
  recorded["target_device"] = name_of(target_device_names(), options.target_device);
  recorded["overflow_fix"] = name_of(overflow_fix_names(), options.overflow_fix);
  recorded["quantizer_propagation_rule"] = name_of(propagation_rule_names(), options.quantizer_propagation_rule);
  recorded["quantize_outputs"] = truth(options.quantize_outputs);
  recorded["activations_quantization_params"] = text_of(options.activations_quantization_params);
  recorded["weights_quantization_params"] = text_of(options.weights_quantization_params);
  recorded["ignored_scope"] = text_of(options.ignored_scope);
}

void record_quantizer(Report& report, const Quantizer& quantizer) {
  std::string name = "own";
  if (const auto* openvino = dynamic_cast<const OpenVINOQuantizer*>(&quantizer)) {
    name = "openvino";
    record_openvino(report, openvino->options());
  } else if (dynamic_cast<const X86InductorQuantizer*>(&quantizer)) {
    name = "x86_inductor";
  } else if (dynamic_cast<const XNNPACKQuantizer*>(&quantizer)) {
    name = "xnnpack";
  }
  report.options["quantizer"] = name;
}

void record_algorithms(Report& report, const QuantizePt2eOptions& options) {
  auto& recorded = report.options;
  recorded["smooth_quant"] = truth(options.smooth_quant);
  if (options.smooth_quant) {
    recorded["smooth_quant_alpha"] = fmt::format(
        "convolution {:g}, matmul {:g}", options.smooth_quant_params.convolution, options.smooth_quant_params.matmul);
  }
  recorded["channel_alignment"] = truth(options.channel_alignment);
  recorded["bias_correction"] = !options.fast_bias_correction   ? "none"
                                : *options.fast_bias_correction ? "fast"
                                                                : "accurate";
  if (options.fast_bias_correction) recorded["bias_correction_params"] = text_of(options.bias_correction_params);
}

}  // namespace

void record_options(Report& report, const Quantizer& quantizer, const QuantizePt2eOptions& options,
                    const Dataset& dataset) {
  report.version = TSQUANT_VERSION;
  report.form = form_name(options.form);
  auto& recorded = report.options;
  recorded["subset_size"] = std::to_string(options.subset_size);
  recorded["fold_quantize"] = truth(options.fold_quantize);
  if (options.form == OutputForm::kLowered) recorded["cost"] = name_of(cost_names(), options.cost);
  recorded["data_length"] = dataset.get_length() ? std::to_string(*dataset.get_length()) : "unknown";
  recorded["batch_size"] = std::to_string(dataset.batch_size());
  recorded["batchwise_statistics"] = truth(options.batchwise_statistics.value_or(dataset.batch_size() > 1));
  recorded["inplace_statistics"] = truth(options.inplace_statistics);
  recorded["activations_range_estimator_params"] = text_of(options.activations_range_estimator_params);
  recorded["weights_range_estimator_params"] = text_of(options.weights_range_estimator_params);
  recorded["skip_passes"] = fmt::format("{}", fmt::join(options.skip_passes, ","));
  record_quantizer(report, quantizer);
  record_algorithms(report, options);
}

std::map<std::string, std::string> deciding_options(const Report& report) {
  // The last two are keys of the statistics themselves, the others change no statistic of activations.
  static const std::set<std::string> kOthers{"subset_size",
                                             "fold_quantize",
                                             "data_length",
                                             "batch_size",
                                             "inplace_statistics",
                                             "weights_range_estimator_params",
                                             "batchwise_statistics",
                                             "activations_range_estimator_params",
                                             "cost"};
  std::map<std::string, std::string> deciding;
  for (const auto& [name, value] : report.options) {
    if (!kOthers.count(name)) deciding[name] = value;
  }
  return deciding;
}

}  // namespace tsquant

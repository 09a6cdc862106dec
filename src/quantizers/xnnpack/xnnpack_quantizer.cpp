#include "tsquant/xnnpack_quantizer.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "quantizers/pt2e/config.h"
#include "quantizers/pt2e/module_paths.h"
#include "quantizers/xnnpack/annotators.h"
#include "tsquant/error.h"

namespace tsquant {

namespace {

using ConfigList = std::vector<std::pair<std::string, OptionalQuantizationConfig>>;

void set(ConfigList& list, const std::string& key, const OptionalQuantizationConfig& config, const char* option) {
  if (config) pt2e::check_config(*config, option);
  const auto known = std::find_if(list.begin(), list.end(), [&](const auto& it) { return it.first == key; });
  if (known != list.end()) {
    known->second = config;
  } else {
    list.emplace_back(key, config);
  }
}

void check_codes(int64_t low, int64_t high, const char* names) {
  if (low < high && low >= -128 && high <= 127) return;
  throw Error(ErrorCode::kInvalidArgument, fmt::format("{} are {} and {}", names, low, high),
              "get_symmetric_quantization_config", "choose a minimum below the maximum, both within [-128, 127]");
}

QuantizationSpec int8_spec(int64_t quant_min, int64_t quant_max) {
  QuantizationSpec spec;
  spec.formula = QParamsFormula::kTorchAo;
  spec.dtype = c10::kChar;
  spec.quant_min = quant_min;
  spec.quant_max = quant_max;
  spec.eps = std::exp2(-12);
  return spec;
}

}  // namespace

QuantizationConfig get_symmetric_quantization_config(bool is_per_channel, bool is_qat, bool is_dynamic,
                                                     int64_t act_qmin, int64_t act_qmax, int64_t weight_qmin,
                                                     int64_t weight_qmax) {
  check_codes(act_qmin, act_qmax, "act_qmin and act_qmax");
  check_codes(weight_qmin, weight_qmax, "weight_qmin and weight_qmax");
  QuantizationSpec activation = int8_spec(act_qmin, act_qmax);
  activation.mode = QuantizationScheme::kAsymmetric;
  QuantizationSpec weight = int8_spec(weight_qmin, weight_qmax);
  weight.per_channel = is_per_channel;
  QuantizationConfig config{activation, activation, weight};
  pt2e::set_observers(config, is_qat, is_dynamic, ObserverKind::kHistogram);
  return config;
}

XNNPACKQuantizer& XNNPACKQuantizer::set_global(const QuantizationConfig& config) {
  pt2e::check_config(config, "set_global");
  global_config_ = config;
  return *this;
}

XNNPACKQuantizer& XNNPACKQuantizer::set_operator_type(const std::string& operator_type,
                                                      const OptionalQuantizationConfig& config) {
  const std::string function =
      pt2e::checked_function(operator_type, xnnpack::quantizable_functions(), "set_operator_type");
  set(operator_configs_, function, config, "set_operator_type");
  return *this;
}

XNNPACKQuantizer& XNNPACKQuantizer::set_module_type(const std::string& module_type,
                                                    const OptionalQuantizationConfig& config) {
  set(module_type_configs_, module_type, config, "set_module_type");
  return *this;
}

XNNPACKQuantizer& XNNPACKQuantizer::set_module_name(const std::string& module_name,
                                                    const OptionalQuantizationConfig& config) {
  set(module_name_configs_, module_name, config, "set_module_name");
  return *this;
}

std::vector<std::string> XNNPACKQuantizer::rewrites_for_annotation() const {
  return {"decompose_attention", "scalars_to_tensors"};
}

Annotations XNNPACKQuantizer::annotate(const GraphView& view) const {
  pt2e::AnnotationTable table(view);
  const auto everywhere = [](const ViewNode&) { return true; };
  if (!module_name_configs_.empty() || !module_type_configs_.empty()) {
    const pt2e::ModulePaths paths(view);
    for (const auto& [module, config] : module_name_configs_) {
      paths.require_module(module, "set_module_name");
      xnnpack::annotate_patterns(table, config,
                                 [&, &name = module](const ViewNode& node) { return paths.in_module(node, name); });
    }
    for (const auto& [type, config] : module_type_configs_) {
      paths.require_module_type(type, "set_module_type");
      xnnpack::annotate_patterns(table, config,
                                 [&, &name = type](const ViewNode& node) { return paths.in_module_type(node, name); });
    }
  }
  for (const auto& [function, config] : operator_configs_) {
    xnnpack::annotate_patterns(table, config, [&, &name = function](const ViewNode& node) {
      return pt2e::is_one_of(node, {name, name + "_"});
    });
  }
  if (global_config_) xnnpack::annotate_patterns(table, global_config_, everywhere);
  xnnpack::propagate_annotation(table);
  return table.finish("XNNPACKQuantizer", global_config_.has_value());
}

}  // namespace tsquant

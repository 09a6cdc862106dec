#include "tsquant/x86_inductor_quantizer.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "quantizers/pt2e/config.h"
#include "quantizers/pt2e/module_paths.h"
#include "quantizers/x86_inductor/recipe.h"
#include "tsquant/error.h"

namespace tsquant {

namespace {

using x86_inductor::PatternFilter;
using ConfigList = std::vector<std::pair<std::string, OptionalQuantizationConfig>>;

void set(ConfigList& list, const std::string& key, const OptionalQuantizationConfig& config) {
  const auto known = std::find_if(list.begin(), list.end(), [&](const auto& it) { return it.first == key; });
  if (known != list.end()) {
    known->second = config;
  } else {
    list.emplace_back(key, config);
  }
}

/// Patterns with exactly one node that calls one of the functions.
PatternFilter one_node_of(const GraphView& view, std::vector<std::string> functions) {
  return [&view, functions = std::move(functions)](const std::vector<int64_t>& nodes) {
    return std::count_if(nodes.begin(), nodes.end(),
                         [&](int64_t node) { return pt2e::is_one_of(view.node(node), functions); }) == 1;
  };
}

PatternFilter all_in_module(const GraphView& view, const pt2e::ModulePaths& paths, const std::string& module) {
  return [&view, &paths, module](const std::vector<int64_t>& nodes) {
    return std::all_of(nodes.begin(), nodes.end(),
                       [&](int64_t node) { return paths.in_module(view.node(node), module); });
  };
}

}  // namespace

QuantizationConfig get_default_x86_inductor_quantization_config(bool is_qat, bool is_dynamic, bool reduce_range) {
  QuantizationSpec activation;
  activation.formula = QParamsFormula::kTorchAo;
  activation.mode = QuantizationScheme::kAsymmetric;
  activation.dtype = c10::kByte;
  activation.quant_min = 0;
  activation.quant_max = reduce_range ? 127 : 255;
  activation.eps = std::exp2(-12);
  QuantizationSpec weight;
  weight.formula = QParamsFormula::kTorchAo;
  weight.per_channel = true;
  weight.dtype = c10::kChar;
  weight.quant_min = -128;
  weight.quant_max = 127;
  weight.eps = std::exp2(-12);
  QuantizationConfig config{activation, activation, weight};
  pt2e::set_observers(config, is_qat, is_dynamic, ObserverKind::kHistogram);
  return config;
}

X86InductorQuantizer& X86InductorQuantizer::set_global(const QuantizationConfig& config) {
  pt2e::check_config(config, "set_global");
  global_config_ = config;
  return *this;
}

X86InductorQuantizer& X86InductorQuantizer::set_function_type_qconfig(const std::string& function,
                                                                      const OptionalQuantizationConfig& config) {
  const std::string option = "set_function_type_qconfig";
  if (config) pt2e::check_config(*config, option);
  set(function_configs_, pt2e::checked_function(function, x86_inductor::quantizable_functions(), option), config);
  return *this;
}

X86InductorQuantizer& X86InductorQuantizer::set_module_type_qconfig(const std::string& module_type,
                                                                    const OptionalQuantizationConfig& config) {
  static const std::map<std::string, std::string> kFunctions = {
      {"Conv1d", "conv1d"},        {"Conv2d", "conv2d"},        {"Linear", "linear"},
      {"MaxPool2d", "max_pool2d"}, {"AvgPool2d", "avg_pool2d"}, {"AdaptiveAvgPool2d", "adaptive_avg_pool2d"}};
  const auto found = kFunctions.find(module_type.substr(module_type.rfind('.') + 1));
  if (found == kFunctions.end()) {
    throw Error(ErrorCode::kInvalidArgument, fmt::format("\"{}\" is no class that can be configured", module_type),
                "set_module_type_qconfig", "use Conv1d, Conv2d, Linear, MaxPool2d, AvgPool2d or AdaptiveAvgPool2d");
  }
  if (config) pt2e::check_config(*config, "set_module_type_qconfig");
  set(function_configs_, found->second, config);
  return *this;
}

X86InductorQuantizer& X86InductorQuantizer::set_module_name_qconfig(const std::string& module_name,
                                                                    const OptionalQuantizationConfig& config) {
  if (config) pt2e::check_config(*config, "set_module_name_qconfig");
  set(module_name_configs_, module_name, config);
  return *this;
}

std::vector<std::string> X86InductorQuantizer::rewrites_for_annotation() const { return {"decompose_attention"}; }

Annotations X86InductorQuantizer::annotate(const GraphView& view) const {
  pt2e::AnnotationTable table(view);
  const pt2e::ModulePaths paths(view);
  const auto apply = [&](const OptionalQuantizationConfig& config, const PatternFilter& filter) {
    x86_inductor::annotate_fusion_patterns(table, paths, config, filter);
    if (!pt2e::is_dynamic(config)) x86_inductor::annotate_carriers(table, config, filter);
  };
  for (const auto& [module, config] : module_name_configs_) {
    paths.require_module(module, "set_module_name_qconfig");
    apply(config, all_in_module(view, paths, module));
  }
  for (const auto& [function, config] : function_configs_) apply(config, one_node_of(view, {function}));
  if (global_config_) apply(global_config_, one_node_of(view, x86_inductor::default_functions()));
  x86_inductor::share_results_of_carriers(table);
  return table.finish("X86InductorQuantizer", global_config_.has_value());
}

}  // namespace tsquant

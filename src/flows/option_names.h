#pragma once

#include <map>
#include <string>
#include <vector>

#include "tsquant/openvino_quantizer.h"
#include "tsquant/quantize_pt2e.h"
#include "tsquant/range_estimator.h"

namespace tsquant {

/// The words that configurations and the command line use for the values of options; NNCF's where it has them.
template <typename Value>
using OptionNames = std::map<std::string, Value>;

const OptionNames<TargetDevice>& target_device_names();
const OptionNames<QuantizationPreset>& preset_names();
const OptionNames<OverflowFix>& overflow_fix_names();
const OptionNames<QuantizerPropagationRule>& propagation_rule_names();
/// "fp8_e4m3" and "fp8_e5m2": nncf.QuantizationMode.
const OptionNames<FP8Type>& mode_names();
const OptionNames<OutputForm>& form_names();
const OptionNames<LoweringCost>& cost_names();
/// The ready-made sets of RangeEstimatorParameters: "minmax", "mean_minmax", ...
const OptionNames<RangeEstimatorParameters>& range_estimator_names();

template <typename Value>
std::vector<std::string> names_of_values(const OptionNames<Value>& names) {
  std::vector<std::string> result;
  for (const auto& entry : names) result.push_back(entry.first);
  return result;
}

}  // namespace tsquant

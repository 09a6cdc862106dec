#include "flows/option_names.h"

namespace tsquant {

const OptionNames<TargetDevice>& target_device_names() {
  static const OptionNames<TargetDevice> names{{"ANY", TargetDevice::kAny},
                                               {"CPU", TargetDevice::kCpu},
                                               {"GPU", TargetDevice::kGpu},
                                               {"NPU", TargetDevice::kNpu},
                                               {"CPU_SPR", TargetDevice::kCpuSpr}};
  return names;
}

const OptionNames<QuantizationPreset>& preset_names() {
  static const OptionNames<QuantizationPreset> names{{"performance", QuantizationPreset::kPerformance},
                                                     {"mixed", QuantizationPreset::kMixed}};
  return names;
}

const OptionNames<OverflowFix>& overflow_fix_names() {
  static const OptionNames<OverflowFix> names{{"enable", OverflowFix::kEnable},
                                              {"first_layer_only", OverflowFix::kFirstLayer},
                                              {"disable", OverflowFix::kDisable}};
  return names;
}

const OptionNames<QuantizerPropagationRule>& propagation_rule_names() {
  using Rule = QuantizerPropagationRule;
  static const OptionNames<Rule> names{{"do_not_merge_branches", Rule::kDoNotMergeBranches},
                                       {"merge_if_all_branches_same", Rule::kMergeIfAllBranchesSame},
                                       {"merge_with_potential_requantization", Rule::kMergeWithPotentialRequantization},
                                       {"merge_all_in_one", Rule::kMergeAllInOne}};
  return names;
}

const OptionNames<FP8Type>& mode_names() {
  static const OptionNames<FP8Type> names{{"fp8_e4m3", FP8Type::kE4M3}, {"fp8_e5m2", FP8Type::kE5M2}};
  return names;
}

const OptionNames<OutputForm>& form_names() {
  static const OptionNames<OutputForm> names{{"decomposed", OutputForm::kDecomposed},
                                             {"reference", OutputForm::kReference},
                                             {"fake_quantize", OutputForm::kFakeQuantize},
                                             {"lowered", OutputForm::kLowered}};
  return names;
}

const OptionNames<LoweringCost>& cost_names() {
  static const OptionNames<LoweringCost> names{
      {"table", LoweringCost::kTable}, {"measure", LoweringCost::kMeasure}, {"off", LoweringCost::kOff}};
  return names;
}

const OptionNames<RangeEstimatorParameters>& range_estimator_names() {
  using Set = RangeEstimatorParameters;
  static const OptionNames<Set> names{{"minmax", Set::minmax()},
                                      {"mean_minmax", Set::mean_minmax()},
                                      {"median_minmax", Set::median_minmax()},
                                      {"mean_no_outliers_minmax", Set::mean_no_outliers_minmax()},
                                      {"mean_quantile", Set::mean_quantile()},
                                      {"histogram", Set::histogram()}};
  return names;
}

}  // namespace tsquant

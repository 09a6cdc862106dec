#include "options/words.h"

namespace tsquant {

template <>
const Words<TargetDevice>& words() {
  static const Words<TargetDevice> table{{"ANY", TargetDevice::kAny},
                                         {"CPU", TargetDevice::kCpu},
                                         {"GPU", TargetDevice::kGpu},
                                         {"NPU", TargetDevice::kNpu},
                                         {"CPU_SPR", TargetDevice::kCpuSpr}};
  return table;
}

template <>
const Words<ModelType>& words() {
  static const Words<ModelType> table{{"transformer", ModelType::kTransformer}};
  return table;
}

template <>
const Words<QuantizationPreset>& words() {
  static const Words<QuantizationPreset> table{{"performance", QuantizationPreset::kPerformance},
                                               {"mixed", QuantizationPreset::kMixed}};
  return table;
}

template <>
const Words<OverflowFix>& words() {
  static const Words<OverflowFix> table{{"enable", OverflowFix::kEnable},
                                        {"first_layer_only", OverflowFix::kFirstLayer},
                                        {"disable", OverflowFix::kDisable}};
  return table;
}

template <>
const Words<QuantizerPropagationRule>& words() {
  using Rule = QuantizerPropagationRule;
  static const Words<Rule> table{{"do_not_merge_branches", Rule::kDoNotMergeBranches},
                                 {"merge_if_all_branches_same", Rule::kMergeIfAllBranchesSame},
                                 {"merge_with_potential_requantization", Rule::kMergeWithPotentialRequantization},
                                 {"merge_all_in_one", Rule::kMergeAllInOne}};
  return table;
}

template <>
const Words<QuantizationScheme>& words() {
  static const Words<QuantizationScheme> table{{"symmetric", QuantizationScheme::kSymmetric},
                                               {"asymmetric", QuantizationScheme::kAsymmetric}};
  return table;
}

template <>
const Words<FP8Type>& words() {
  static const Words<FP8Type> table{{"f8e4m3", FP8Type::kE4M3}, {"f8e5m2", FP8Type::kE5M2}};
  return table;
}

template <>
const Words<QuantizationMode>& words() {
  static const Words<QuantizationMode> table{{"fp8_e4m3", QuantizationMode::kFP8E4M3},
                                             {"fp8_e5m2", QuantizationMode::kFP8E5M2}};
  return table;
}

template <>
const Words<OutputForm>& words() {
  static const Words<OutputForm> table{{"decomposed", OutputForm::kDecomposed},
                                       {"reference", OutputForm::kReference},
                                       {"fake_quantize", OutputForm::kFakeQuantize},
                                       {"lowered", OutputForm::kLowered}};
  return table;
}

template <>
const Words<LoweringCost>& words() {
  static const Words<LoweringCost> table{
      {"table", LoweringCost::kTable}, {"measure", LoweringCost::kMeasure}, {"off", LoweringCost::kOff}};
  return table;
}

template <>
const Words<BiasReference>& words() {
  static const Words<BiasReference> table{{"simulated", BiasReference::kSimulated},
                                          {"collected", BiasReference::kCollected}};
  return table;
}

template <>
const Words<StatisticsType>& words() {
  static const Words<StatisticsType> table{{"min", StatisticsType::kMin},
                                           {"max", StatisticsType::kMax},
                                           {"abs_max", StatisticsType::kAbsMax},
                                           {"quantile", StatisticsType::kQuantile},
                                           {"abs_quantile", StatisticsType::kAbsQuantile},
                                           {"mean", StatisticsType::kMean},
                                           {"raw", StatisticsType::kRaw}};
  return table;
}

template <>
const Words<AggregatorType>& words() {
  static const Words<AggregatorType> table{{"min", AggregatorType::kMin},
                                           {"max", AggregatorType::kMax},
                                           {"mean", AggregatorType::kMean},
                                           {"median", AggregatorType::kMedian},
                                           {"mean_no_outliers", AggregatorType::kMeanNoOutliers},
                                           {"median_no_outliers", AggregatorType::kMedianNoOutliers},
                                           {"histogram", AggregatorType::kHistogram}};
  return table;
}

template <>
const Words<DropType>& words() {
  static const Words<DropType> table{{"absolute", DropType::kAbsolute}, {"relative", DropType::kRelative}};
  return table;
}

template <>
const Words<RestoreMode>& words() {
  static const Words<RestoreMode> table{{"activations_and_weights", RestoreMode::kActivationsAndWeights},
                                        {"only_activations", RestoreMode::kOnlyActivations}};
  return table;
}

const Words<RangeEstimatorParameters>& range_estimator_words() {
  using Set = RangeEstimatorParameters;
  static const Words<Set> table{{"minmax", Set::minmax()},
                                {"mean_minmax", Set::mean_minmax()},
                                {"median_minmax", Set::median_minmax()},
                                {"mean_no_outliers_minmax", Set::mean_no_outliers_minmax()},
                                {"mean_quantile", Set::mean_quantile()},
                                {"histogram", Set::histogram()}};
  return table;
}

}  // namespace tsquant

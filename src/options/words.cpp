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
template <>
const Words<CompressWeightsMode>& words() {
  using Mode = CompressWeightsMode;
  static const Words<Mode> table{{"int8_asym", Mode::kInt8Asym},
                                 {"int8_sym", Mode::kInt8Sym},
                                 {"int8", Mode::kInt8},
                                 {"int4_sym", Mode::kInt4Sym},
                                 {"int4_asym", Mode::kInt4Asym},
                                 {"int3_sym", Mode::kInt3Sym},
                                 {"int3_asym", Mode::kInt3Asym},
                                 {"int2_sym", Mode::kInt2Sym},
                                 {"int2_asym", Mode::kInt2Asym},
                                 {"nf4", Mode::kNf4},
                                 {"e2m1", Mode::kE2M1},
                                 {"fp4", Mode::kFp4},
                                 {"fp8_e4m3", Mode::kFp8E4M3},
                                 {"mxfp4", Mode::kMxFp4},
                                 {"mxfp8_e4m3", Mode::kMxFp8E4M3},
                                 {"nvfp4", Mode::kNvFp4},
                                 {"codebook", Mode::kCodebook},
                                 {"adaptive_codebook", Mode::kAdaptiveCodebook},
                                 {"cb4", Mode::kCb4}};
  return table;
}

template <>
const Words<BackupMode>& words() {
  static const Words<BackupMode> table{{"none", BackupMode::kNone},
                                       {"int8_sym", BackupMode::kInt8Sym},
                                       {"int8_asym", BackupMode::kInt8Asym},
                                       {"fp8_e4m3", BackupMode::kFp8E4M3},
                                       {"mxfp8_e4m3", BackupMode::kMxFp8E4M3}};
  return table;
}

template <>
const Words<SensitivityMetric>& words() {
  using Metric = SensitivityMetric;
  static const Words<Metric> table{{"weight_quantization_error", Metric::kWeightQuantizationError},
                                   {"hessian_input_activation", Metric::kHessianInputActivation},
                                   {"mean_activation_variance", Metric::kMeanActivationVariance},
                                   {"max_activation_variance", Metric::kMaxActivationVariance},
                                   {"mean_activation_magnitude", Metric::kMeanActivationMagnitude}};
  return table;
}

template <>
const Words<CompressionFormat>& words() {
  static const Words<CompressionFormat> table{{"dequantize", CompressionFormat::kDQ},
                                              {"fake_quantize", CompressionFormat::kFQ},
                                              {"fake_quantize_with_lora", CompressionFormat::kFQLora}};
  return table;
}

template <>
const Words<GroupSizeFallbackMode>& words() {
  static const Words<GroupSizeFallbackMode> table{{"error", GroupSizeFallbackMode::kError},
                                                  {"ignore", GroupSizeFallbackMode::kIgnore},
                                                  {"adjust", GroupSizeFallbackMode::kAdjust}};
  return table;
}

template <>
const Words<CompressionQuality>& words() {
  static const Words<CompressionQuality> table{{"nncf", CompressionQuality::kNncf},
                                               {"best", CompressionQuality::kBest}};
  return table;
}

template <>
const Words<Format>& words() {
  static const Words<Format> table{{"f8e4m3", Format::kF8E4M3}, {"f8e5m2", Format::kF8E5M2}};
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

#pragma once

#include <string>
#include <utility>
#include <vector>

#include "tsquant/compress_weights.h"
#include "tsquant/openvino_quantizer.h"
#include "tsquant/quantize_with_accuracy_control.h"
#include "tsquant/range_estimator.h"

namespace tsquant {

/// The words that configurations, the command line and reports use for the values of an option; NNCF's where it has
/// them.
template <typename Value>
using Words = std::vector<std::pair<std::string, Value>>;

/// The words of an enum. One specialization per enum, in words.cpp.
template <typename Enum>
const Words<Enum>& words();

template <>
const Words<TargetDevice>& words();
template <>
const Words<ModelType>& words();
template <>
const Words<QuantizationPreset>& words();
template <>
const Words<OverflowFix>& words();
template <>
const Words<QuantizerPropagationRule>& words();
template <>
const Words<QuantizationScheme>& words();
template <>
const Words<QuantizationMode>& words();
template <>
const Words<FP8Type>& words();
template <>
const Words<OutputForm>& words();
template <>
const Words<LoweringCost>& words();
template <>
const Words<BiasReference>& words();
template <>
const Words<StatisticsType>& words();
template <>
const Words<AggregatorType>& words();
template <>
const Words<DropType>& words();
template <>
const Words<RestoreMode>& words();
template <>
const Words<CompressWeightsMode>& words();
template <>
const Words<BackupMode>& words();
template <>
const Words<SensitivityMetric>& words();
template <>
const Words<CompressionFormat>& words();
template <>
const Words<GroupSizeFallbackMode>& words();
template <>
const Words<CompressionQuality>& words();
/// Formats of one byte, to which adaptive codebooks round their levels.
template <>
const Words<Format>& words();

/// The ready-made sets of RangeEstimatorParameters: "minmax", "mean_minmax", ...
const Words<RangeEstimatorParameters>& range_estimator_words();

template <typename Value>
std::vector<std::string> all_words(const Words<Value>& words) {
  std::vector<std::string> result;
  for (const auto& entry : words) result.push_back(entry.first);
  return result;
}

/// "unknown" for a value without a word.
template <typename Value>
std::string word_of(const Words<Value>& words, const Value& wanted) {
  for (const auto& [word, value] : words) {
    if (value == wanted) return word;
  }
  return "unknown";
}

/// Null when there is no such word.
template <typename Value>
const Value* find_word(const Words<Value>& words, const std::string& wanted) {
  for (const auto& [word, value] : words) {
    if (word == wanted) return &value;
  }
  return nullptr;
}

}  // namespace tsquant

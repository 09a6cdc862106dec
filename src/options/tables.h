#pragma once

#include "options/field.h"
#include "tsquant/compress_weights.h"
#include "tsquant/quantize.h"

namespace tsquant {

// One table per struct of options; adding an option is adding its field to the struct and its row here.

template <>
const Fields<QuantizationParameters>& fields();
template <>
const Fields<IgnoredScope>& fields();
template <>
const Fields<OpenVINOQuantizerOptions>& fields();

template <>
const Fields<StatisticsCollectorParameters>& fields();
template <>
const Fields<RangeEstimatorParameters>& fields();
template <>
const Fields<BiasCorrectionParameters>& fields();
template <>
const Fields<SmoothQuantParameters>& fields();
template <>
const Fields<QuantizePt2eOptions>& fields();

template <>
const Fields<AdvancedAccuracyRestorerParameters>& fields();
template <>
const Fields<AccuracyControlOptions>& fields();

template <>
const Fields<AdvancedQuantizationParameters>& fields();
template <>
const Fields<QuantizeOptions>& fields();

template <>
const Fields<AdvancedAWQParameters>& fields();
template <>
const Fields<AdvancedScaleEstimationParameters>& fields();
template <>
const Fields<AdvancedGPTQParameters>& fields();
template <>
const Fields<AdvancedLoraCorrectionParameters>& fields();
template <>
const Fields<AdaptiveCodebookParameters>& fields();
template <>
const Fields<AdvancedCompressionParameters>& fields();
template <>
const Fields<WeightsOnlyOptions>& fields();
template <>
const Fields<CompressPt2eOptions>& fields();
template <>
const Fields<CompressWeightsOptions>& fields();

/// Groups of flags in the program's help.
constexpr const char* kQuantizerGroup = "Quantizer";
constexpr const char* kPrecisionGroup = "Precision";
constexpr const char* kAlgorithmsGroup = "Algorithms";
constexpr const char* kResultGroup = "Result";
constexpr const char* kStatisticsGroup = "Statistics files";
constexpr const char* kAccuracyGroup = "Accuracy control";

}  // namespace tsquant

#pragma once

#include <map>
#include <string>

#include "tsquant/accuracy_restorer_parameters.h"
#include "tsquant/openvino_quantizer.h"
#include "tsquant/quantize_pt2e.h"
#include "tsquant/range_estimator.h"

namespace tsquant {

/// NNCF's names of structs that the other interfaces share.
using AdvancedBiasCorrectionParameters = BiasCorrectionParameters;
using AdvancedSmoothQuantParameters = SmoothQuantParameters;

/// NNCF's AdvancedQuantizationParameters: names, defaults and meaning of nncf/quantization/advanced_parameters.py.
struct AdvancedQuantizationParameters {
  /// None: kFirstLayer when weights and activations have 8-bit integers, kDisable otherwise. A value that was set is
  /// not changed: kEnable and kFirstLayer are refused with other bit widths and with fp8.
  c10::optional<OverflowFix> overflow_fix = c10::nullopt;
  bool quantize_outputs = false;  ///< quantizers before the model's outputs too
  /// True: a tensor is reduced to its statistics as soon as it has been computed. False: the tensors of all points of a
  /// sample are kept until its run has ended: the same statistics with more memory.
  bool inplace_statistics = true;
  bool disable_channel_alignment = true;
  bool disable_bias_correction = false;  ///< wins over `fast_bias_correction`
  /// Per-tensor activation statistics per item of a batch; none: when the data set's batch size is larger than 1.
  c10::optional<bool> batchwise_statistics = c10::nullopt;
  QuantizationParameters activations_quantization_params = {};  ///< or FP8QuantizationParameters with an fp8 mode
  QuantizationParameters weights_quantization_params = {};
  QuantizerPropagationRule quantizer_propagation_rule = QuantizerPropagationRule::kMergeAllInOne;
  RangeEstimatorParameters activations_range_estimator_params = {};  ///< unset fields: the default of each tensor
  RangeEstimatorParameters weights_range_estimator_params = {};
  AdvancedBiasCorrectionParameters bias_correction_params = {};
  /// SmoothQuant runs for ModelType::kTransformer unless both values are negative. Other models get a warning when
  /// they are changed.
  AdvancedSmoothQuantParameters smooth_quant_alphas = {};
  /// Deprecated: replaces `smooth_quant_alphas.matmul`; negative: switches SmoothQuant off. Leaves a warning in the
  /// report.
  c10::optional<double> smooth_quant_alpha = c10::nullopt;
  /// Further options by name; others are an Error:
  ///  - "compress_weights": "true" (default) or "false": keep float weights followed by quantize and dequantize
  ///  - "form": "decomposed", "reference", "fake_quantize" or "lowered"
  ///  - "engine": of the lowered form
  std::map<std::string, std::string> backend_params = {};
};

}  // namespace tsquant

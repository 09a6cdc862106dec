#include "quantizers/openvino/resolved_options.h"

namespace tsquant::openvino {

bool eight_bit(const OpenVINOQuantizerOptions& options) {
  return options.activations_quantization_params.num_bits.value_or(8) == 8 &&
         options.weights_quantization_params.num_bits.value_or(8) == 8;
}

OpenVINOQuantizerOptions resolved_options(OpenVINOQuantizerOptions options) {
  // Sums of products of other widths are not those that the fix was made for.
  const bool may_overflow = !options.mode && eight_bit(options);
  if (!options.preset) {
    const bool mixed = !options.mode && options.model_type == ModelType::kTransformer;
    options.preset = mixed ? QuantizationPreset::kMixed : QuantizationPreset::kPerformance;
  }
  if (!options.overflow_fix) options.overflow_fix = may_overflow ? OverflowFix::kFirstLayer : OverflowFix::kDisable;
  return options;
}

}  // namespace tsquant::openvino

#pragma once

#include "tsquant/openvino_quantizer.h"

namespace tsquant::openvino {

/// Whether activations and weights both have 8 bits.
bool eight_bit(const OpenVINOQuantizerOptions& options);

/// The options with the values that hold for those that were not set: preset and overflow fix.
/// Source: nncf MinMaxQuantization._review_mode_based_params.
OpenVINOQuantizerOptions resolved_options(OpenVINOQuantizerOptions options);

}  // namespace tsquant::openvino

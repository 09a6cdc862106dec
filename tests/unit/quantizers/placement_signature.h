#pragma once

#include <string>
#include <vector>

#include "tsquant/dataset.h"
#include "tsquant/model.h"
#include "tsquant/openvino_quantizer.h"

namespace tsquant::testing {

/// What a quantizer decides about a model, in words that do not depend on how the model is spelled: one line per
/// quantized tensor (its configuration, and its values in a run with `sample`, whatever their shape and order), one per
/// group with a common scale. Sorted. Fewer lines when one tensor has several equal quantizers.
std::vector<std::string> placement_signature(const Model& model, const Sample& sample,
                                             const OpenVINOQuantizerOptions& options = {});

/// The lines that only one of the two has, for messages.
std::string difference(const std::vector<std::string>& a, const std::vector<std::string>& b);

}  // namespace tsquant::testing

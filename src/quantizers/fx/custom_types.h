#pragma once

#include <c10/util/Optional.h>

#include "tsquant/fx/custom_config.h"

namespace tsquant::fx {

/// When a custom module with this qconfig computes parameters; none: there are no observers for its types, so it stays
/// in float. Source: get_quant_type, torch/ao/quantization/utils.py.
c10::optional<QuantType> custom_quant_type(const QConfig& qconfig);

/// "static", "dynamic" or "weight_only", torch.ao's words, and back.
const char* to_string(QuantType type);
QuantType quant_type_from_string(const std::string& word);

}  // namespace tsquant::fx

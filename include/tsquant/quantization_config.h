#pragma once

#include "tsquant/annotation.h"

namespace tsquant {

/// How an operator pattern is quantized by the PT2E-style quantizers (torchao's QuantizationConfig). An unset field
/// leaves that tensor in float; biases always stay in float.
struct QuantizationConfig {
  c10::optional<QuantizationSpec> input_activation = c10::nullopt;   ///< per tensor
  c10::optional<QuantizationSpec> output_activation = c10::nullopt;  ///< per tensor
  c10::optional<QuantizationSpec> weight = c10::nullopt;             ///< per tensor or per channel, symmetric
};

/// What a submodule or a type of operator gets; none: it stays in float.
using OptionalQuantizationConfig = c10::optional<QuantizationConfig>;

}  // namespace tsquant

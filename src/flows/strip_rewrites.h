#pragma once

#include <torch/csrc/jit/ir/ir.h>

#include <string>

#include "tsquant/model.h"

namespace tsquant {

// The rewrites of strip(). Each returns whether something changed; quantizers that stay get a warning.

/// Fake quantizes on weights, and weights that are still quantized while the model runs, become codes and
/// aten::dequantize. @throws Error kUnsupportedModel for codes that do not fit a byte
bool weights_to_codes(Model& model);

/// Weights become the floats that their quantizers make of them.
bool weights_in_place(Model& model);

/// quantized_decomposed::quantize and dequantize, or a dequantize on a weight's codes, become one fake quantize.
bool decomposed_to_fake_quantize(Model& model);

/// The stable name of an operator. One that a rewrite inserted without a name is called after what it reads.
std::string operator_name(const torch::jit::Node* node);

}  // namespace tsquant

#pragma once

#include <string>

namespace tsquant {

/// Whether an operator, named with its namespace ("aten::conv2d"), is a quantized one: it makes codes or numbers of
/// codes, computes with codes, or is a fake quantize. All others compute in floating point.
bool is_quantized_operator(const std::string& name);

}  // namespace tsquant

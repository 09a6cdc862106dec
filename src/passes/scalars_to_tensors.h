#pragma once

#include "tsquant/model.h"

namespace tsquant {

/// Makes the number in `x + 1.0` and `2 * x` a float32 buffer of the module (`_tensor_constant_0`, ...), so that it can
/// be quantized like any other input (_convert_scalars_to_attrs of executorch's xnnpack_quantizer_utils.py). Traces
/// hold such numbers as tensors without dimensions; these become buffers too.
///
/// Results keep their type: an integer is left alone unless the other operand is known to be float32, and no number is
/// touched when the other operand is known to be something else. Additions in place (`x += 1.0`) and with a factor
/// (`alpha`) stay as they are. Returns whether the graph changed.
bool scalars_to_tensors(Model& model);

}  // namespace tsquant

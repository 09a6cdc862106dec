#pragma once

#include <cstdint>
#include <vector>

#include "tsquant/model.h"
#include "tsquant/sample.h"

namespace tsquant {

/// Arguments of the model that are quantized tensors already, counted from 0, and whether its result is one.
struct QuantizedIo {
  std::vector<int64_t> inputs;
  bool output = false;
};

/// Reference form: dequantizes these inputs, and takes the dequantize in front of the result away.
/// @throws Error kInvalidArgument: no such input; the result is not dequantized
bool quantize_io(Model& model, const QuantizedIo& io);

/// The sample with these arguments quantized as quint8 over their own range.
Sample with_quantized_inputs(const Sample& sample, const QuantizedIo& io);

}  // namespace tsquant

#pragma once

#include <vector>

#include "flows/compression/weight_layers.h"

namespace tsquant {

/// Compressed weights whose float values stay in the module, as operators read them that no quantizer stands for (the
/// fused encoder layers of LibTorch): the file has both. To be called when all codes are in the graph.
/// @return a warning, which names the operators and the bytes, where there are any. The weights' records say so too
c10::optional<std::string> note_float_copies(const Model& model, std::vector<WeightLayer>& layers);

/// Matrices that are a hundredth of the model and more and that only operators read which are never compressed, such
/// as aten::einsum. To be called before there are codes. @return a warning that names them, where there are any
c10::optional<std::string> note_other_weights(const Model& model, const std::vector<WeightLayer>& layers,
                                              int64_t float_bytes);

}  // namespace tsquant

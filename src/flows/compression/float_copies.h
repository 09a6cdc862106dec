#pragma once

#include <vector>

#include "flows/compression/weight_layers.h"

namespace tsquant {

/// Compressed weights whose float values stay in the module, as operators read them that no quantizer stands for (the
/// fused encoder layers of LibTorch): the file has both. To be called when all codes are in the graph.
/// @return a warning, which names the operators and the bytes, where there are any. The weights' records say so too
c10::optional<std::string> note_float_copies(const Model& model, std::vector<WeightLayer>& layers);

}  // namespace tsquant

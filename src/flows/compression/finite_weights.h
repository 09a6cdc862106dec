#pragma once

#include <vector>

#include "flows/compression/weight_layers.h"

namespace tsquant {

/// Looks through the values of all weights that are to be compressed, a part of one at a time.
/// @throws Error kUnsupportedModel naming the weight that has NaN or infinite values
void require_finite_weights(const std::vector<WeightLayer>& layers);

}  // namespace tsquant

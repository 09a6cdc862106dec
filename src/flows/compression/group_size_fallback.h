#pragma once

#include <vector>

#include "flows/compression/weight_layers.h"

namespace tsquant {

/// Looks at the weights whose group size does not divide their axis, after mixed precision: those of
/// GroupSizeFallbackMode::kIgnore stay in float.
/// @throws Error kInvalidArgument that lists all others (nncf InvalidGroupSizeError)
void apply_group_size_fallback(std::vector<WeightLayer>& layers);

}  // namespace tsquant

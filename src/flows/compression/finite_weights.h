#pragma once

#include <vector>

#include "flows/compression/weight_layers.h"
#include "tsquant/compress_pt2e.h"

namespace tsquant {

/// Looks through the values of all weights, a part of one at a time, and rounds those that hold NaN or infinite ones,
/// so that a dry run ends with the error with which the run itself would. @throws Error naming the weight
void require_finite_weights(std::vector<WeightLayer>& layers, const CompressPt2eOptions& options);

}  // namespace tsquant

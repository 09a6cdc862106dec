#pragma once

#include <vector>

#include "flows/compression/weight_layers.h"
#include "tsquant/compress_pt2e.h"

namespace tsquant {

/// Gives the input channels of matrices the scales that find_column_scale finds, where what computes the inputs can
/// take the inverse at no cost: a product with a parameter (the weight of an RMS norm), a layer norm, or a linear
/// layer, perhaps as one factor of a product. All layers that read the same inputs share a scale; inputs that something
/// else reads as well keep theirs. @return whether weights changed
bool scale_columns(Model& model, std::vector<WeightLayer>& layers, const CompressPt2eOptions& options);

}  // namespace tsquant

#pragma once

#include <vector>

#include "flows/compression/layer_results.h"
#include "flows/compression/rank_group.h"
#include "flows/compression/weight_layers.h"
#include "tsquant/compress_pt2e.h"

namespace tsquant {

/// Scales the input channels of weights of 4 and less bits whose input is an activation function or a product with one,
/// or with a linear layer before it; what they are divided by goes into the weight of that layer, or into a multiply in
/// front. Other layers stay as they are, with a remark. Source: nncf awq.py (patterns, merging) and awq_scale.h.
/// @return whether something changed
bool apply_awq(Model& model, const GraphView& view, std::vector<WeightLayer>& layers,
               const CompressPt2eOptions& options, LayerResults& results, RankGroup& ranks);

}  // namespace tsquant

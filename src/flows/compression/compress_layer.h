#pragma once

#include <vector>

#include "flows/compression/layer_results.h"
#include "flows/compression/rank_group.h"
#include "flows/compression/weight_layers.h"
#include "passes/new_parameters.h"
#include "tsquant/compress_pt2e.h"

namespace tsquant {

/// GPTQ over all layers that take algorithms, each with inputs that come through the codes of those before it.
/// @param report is told how many samples were used, and when they are fewer than the options ask for
/// @return whether something changed
bool round_layers(Model& model, std::vector<WeightLayer>& layers, const CompressPt2eOptions& options,
                  LayerResults& results, RankGroup& ranks, Report& report);

/// The codes of one weight: those that were chosen already, or by the algorithm that the options ask for. Fills the
/// errors and algorithms of the record. @throws Error naming the weight
CompressedWeight compress_layer(WeightLayer& layer, const CompressPt2eOptions& options, LayerResults& results);

}  // namespace tsquant

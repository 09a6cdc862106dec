#pragma once

#include <vector>

#include "flows/compression/layer_results.h"
#include "flows/compression/rank_group.h"
#include "flows/compression/weight_layers.h"
#include "tsquant/compress_pt2e.h"

namespace tsquant {

/// Finds the levels of weights with CompressWeightsMode::kAdaptiveCodebook (adaptive_codebook.h). Weights whose inputs
/// were not measured keep the levels of their spec, with a remark.
void fit_codebooks(std::vector<WeightLayer>& layers, const CompressPt2eOptions& options, LayerResults& results,
                   RankGroup& ranks);

/// Whether a weight asks for it.
bool wants_codebook(const WeightLayer& layer);

}  // namespace tsquant

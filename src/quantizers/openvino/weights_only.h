#pragma once

#include <vector>

#include "tsquant/annotation.h"
#include "tsquant/graph_view.h"
#include "tsquant/openvino_quantizer.h"

namespace tsquant::openvino {

/// Points of kind kWeight for every weight that nncf.compress_weights compresses, in the order in which the graph reads
/// them: weights of matrix multiplications, embeddings, convolutions and recurrent layers; each tensor once.
/// Source: nncf weight_compression/algorithm.py (get_weights_to_compress, _get_ratio_defining_params).
/// @param ignored by node id, parameters included: a weight whose operator or whose own name is ignored stays float
Annotations annotate_weights(const GraphView& view, const WeightsOnlyOptions& options,
                             const std::vector<bool>& ignored);

}  // namespace tsquant::openvino

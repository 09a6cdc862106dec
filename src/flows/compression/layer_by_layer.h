#pragma once

#include <functional>
#include <vector>

#include "flows/compression/layer_results.h"
#include "flows/compression/rank_group.h"
#include "flows/compression/weight_layers.h"
#include "tsquant/compress_pt2e.h"

namespace tsquant {

/// Chooses the codes of matrices one after the other, in the order in which the model runs: the inputs of each come
/// from the model in which those before have their codes already. All samples go through the model together, once.
///
/// A model whose layers stand in branches or loops, or that keeps state, cannot be cut: there the inputs of all layers
/// are those of the float model, and a remark says so.
///
/// Every rank runs all samples. Ranks share the layers whose inputs do not depend on each other's codes: those that
/// read one tensor, such as the projections of an attention; with inputs of the float model all layers, unless `choose`
/// changes biases.
/// @param results layers that an earlier run has finished are taken from here, those of this run are kept in it
/// @param report is told how many samples were used, and when they are fewer than the options ask for
/// @param choose fills layer.compressed and, to change the layer's bias, layer.bias; given the inputs of every sample,
///               in their order
/// @throws Error as TapRunner and what `choose` throws, with the layer's name
void compress_layer_by_layer(
    Model& model, std::vector<WeightLayer>& layers, const CompressPt2eOptions& options, int64_t subset_size,
    LayerResults& results, RankGroup& ranks, Report& report,
    const std::function<void(WeightLayer& layer, const std::vector<at::Tensor>& inputs)>& choose);

}  // namespace tsquant

#pragma once

#include <vector>

#include "flows/compression/weight_layers.h"
#include "passes/new_parameters.h"
#include "tsquant/compress_pt2e.h"

namespace tsquant {

/// Whether weights stay float, behind quantizers that can be trained. @param options of either driver
template <typename Options>
bool is_trainable(const Options& options) {
  return options.compression_format != CompressionFormat::kDQ || options.form == OutputForm::kFakeQuantize;
}

/// With kFQLora: which weights get adapters, as a rank for each; 0: none. Those of fewer than 8 bits do, those of 8
/// bits when there are no others (NNCF's rule). Weights that are no matrices get none; their records say so.
/// @throws Error kInvalidArgument naming a weight that is smaller than the rank
std::vector<int64_t> adapter_ranks(std::vector<WeightLayer>& layers, const CompressPt2eOptions& options);

/// Puts the quantizer of one weight into the graph. @param rank of adapters, 0: none
void insert_trainable_layer(Model& model, NewParameters& parameters, WeightLayer& layer,
                            const CompressedWeight& compressed, int64_t rank);

}  // namespace tsquant

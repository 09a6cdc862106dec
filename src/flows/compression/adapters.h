#pragma once

#include "compression/input_moments.h"
#include "flows/compression/layer_results.h"
#include "flows/compression/weight_layers.h"
#include "passes/new_parameters.h"
#include "tsquant/compress_pt2e.h"

namespace tsquant {

/// Quality best: the adapters that are best for the layer's chosen codes on these inputs become its `correction`.
/// Layers that read their input or hold their weight transposed, and shared weights, get none; their records say so.
void find_adapters(WeightLayer& layer, const InputMoments& moments, const AdvancedLoraCorrectionParameters& wanted);

/// Low-rank matrices beside the layer: y += B (A x), those of find_adapters or, with quality nncf, those of
/// lora_correction.h. Layers without inputs, and those that read x transposed, get none.
void correct_with_adapters(Model& model, NewParameters& parameters, WeightLayer& layer,
                           const CompressedWeight& compressed, const CompressPt2eOptions& options,
                           LayerResults& results);

}  // namespace tsquant

#pragma once

#include "compression/input_moments.h"
#include "flows/compression/layer_results.h"
#include "flows/compression/weight_layers.h"
#include "passes/new_parameters.h"
#include "tsquant/compression_parameters.h"

namespace tsquant {

/// Quality best: the adapters that are best for the layer's chosen codes on these inputs become its `correction`.
/// Layers that read their input or hold their weight transposed, and shared weights, get none; their records say so.
void find_adapters(WeightLayer& layer, const InputMoments& moments, const AdvancedLoraCorrectionParameters& wanted);

/// Quality nncf: the adapters of lora_correction.h become the layer's `correction`. Layers without inputs, and those
/// that read x transposed, get none.
void fit_adapters(WeightLayer& layer, const CompressedWeight& compressed,
                  const AdvancedLoraCorrectionParameters& wanted, LayerResults& results);

/// Low-rank matrices beside the layer: y += B (A x), where it has a `correction`.
void insert_adapters(Model& model, NewParameters& parameters, WeightLayer& layer,
                     const AdvancedLoraCorrectionParameters& wanted);

}  // namespace tsquant

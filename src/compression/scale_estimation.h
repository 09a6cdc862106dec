#pragma once

#include "compression/compressed_weight.h"
#include "compression/layer_error.h"
#include "compression/layer_samples.h"
#include "tsquant/compression_parameters.h"

namespace tsquant {

/// A weight that was compressed with a look at the layer's inputs.
struct EstimatedWeight {
  CompressedWeight weight;
  OutputError error;  ///< on the samples used; before: round_to_nearest
};

/// Scales that make the error of the layer's outputs small, group by group, with the zero points of round_to_nearest.
/// Source: nncf scale_estimation.py, with all formats; scales that a format cannot store are not tried.
/// @param weight of a linear layer, [out_features, in_features] or the other way round
/// @param spec as for round_to_nearest, with groups along the inputs or one scale per output
/// @throws Error kInvalidArgument as LayerMatrix, for parameters out of their limits and for samples of another number
///         of channels; kCalibration without samples
EstimatedWeight estimate_scales(const at::Tensor& weight, const QuantizationSpec& spec, const LayerSamples& samples,
                                const AdvancedScaleEstimationParameters& parameters = {});

}  // namespace tsquant

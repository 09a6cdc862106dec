#pragma once

#include "compression/compressed_weight.h"
#include "compression/layer_error.h"
#include "compression/layer_samples.h"
#include "tsquant/compression_parameters.h"

namespace tsquant {

struct GptqWeight {
  CompressedWeight weight;
  OutputError error;        ///< by the Hessian; before: round_to_nearest
  double damp_percent = 0;  ///< that made the Hessian positive definite; more than asked for when that was not enough
};

/// Codes column by column, where each column takes over the errors of those before it. Source: GPTQ
/// (arXiv:2210.17323) as in nncf gptq.py, with all formats.
///
/// Scales and zero points of a group come, when its first column is reached, from the weights as they are after the
/// last whole block of `block_size` columns. Input channels that were always 0 get the code of 0. When the damped
/// Hessian is not positive definite, the damping grows tenfold until it is.
/// @param weight of a linear layer, [out_features, in_features] or the other way round
/// @param spec as for round_to_nearest, with groups along the inputs or one scale per output
/// @param hessian [in_features, in_features], from `hessian_of`
/// @throws Error kInvalidArgument as LayerMatrix, for parameters out of their limits and a Hessian of another shape;
///         kCalibration for a Hessian with NaN or infinite values, or none that damping makes positive definite
GptqWeight gptq(const at::Tensor& weight, const QuantizationSpec& spec, const at::Tensor& hessian,
                const AdvancedGPTQParameters& parameters = {});

/// The same with scales by scale estimation (see estimate_scales) inside. NNCF estimates scales of 4-bit integers
/// alone. For other formats this is done too, and the result is the one with the smaller error of that and of GPTQ
/// without it.
/// @param samples of the layer's inputs
/// @param estimation what `scale_estimation_in_gptq` makes of the user's parameters
/// @throws Error also as estimate_scales
GptqWeight gptq_with_scale_estimation(const at::Tensor& weight, const QuantizationSpec& spec, const at::Tensor& hessian,
                                      const LayerSamples& samples, const AdvancedGPTQParameters& parameters,
                                      const AdvancedScaleEstimationParameters& estimation);

/// NNCF's parameters of scale estimation inside GPTQ, 32 samples, 5 initial steps and 10 scale steps, when all fields
/// have their defaults; otherwise the given ones.
AdvancedScaleEstimationParameters scale_estimation_in_gptq(const AdvancedScaleEstimationParameters& given);

}  // namespace tsquant

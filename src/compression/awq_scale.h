#pragma once

#include <c10/util/Optional.h>

#include "compression/layer_error.h"
#include "compression/layer_samples.h"
#include "tsquant/compression_parameters.h"
#include "tsquant/quantization_spec.h"

namespace tsquant {

/// What the weights of each input channel are multiplied by, and its inputs divided by.
struct AwqScale {
  at::Tensor scale;  ///< float32 [in_features]; undefined: no scale is better than none
  /// On the samples used, of the weight compressed by round_to_nearest: before without the scale. None without samples.
  c10::optional<OutputError> error;
};

/// Scales of input channels that make compressing the weight harmless. Source: AWQ (arXiv:2306.00978) as in nncf
/// awq.py.
///
/// With samples: the groups that hold the channels with the largest inputs s get c = clip(s, its 0.1-quantile, 100)^a,
/// with the exponent a on a grid that makes mean |Q(W c) (X / c) - W X| of the group smallest; all others keep 1.
/// Groups are judged one by one and by magnitudes, so that the squared error of the whole layer may still grow.
/// Without samples, or with prefer_data_aware_scaling off: c = 1 / mean |W| over outputs.
/// @param weight of a linear layer, [out_features, in_features] or the other way round
/// @param spec as for round_to_nearest, with groups along the inputs or one scale per output
/// @param samples of the layer's inputs; null: none
/// @param smallest [in_features], from smallest_awq_scale; undefined: any scale is allowed
/// @throws Error kInvalidArgument as LayerMatrix, for parameters out of their limits, and for samples or a smallest
///         scale of another number of channels; kCalibration for samples without any
AwqScale awq_scale(const at::Tensor& weight, const QuantizationSpec& spec, const LayerSamples* samples,
                   const AdvancedAWQParameters& parameters = {}, const at::Tensor& smallest = {});

/// The scales below which the outputs of the layer before could leave the range of float16, when these are what is
/// divided: mean |w| of each of its outputs, times its largest input and the number of these, over a quarter of 65504.
/// @param weight of the layer before, [out_features, in_features], floating point
/// @return float32 [out_features]
at::Tensor smallest_awq_scale(const at::Tensor& weight, const LayerSamples& samples);

}  // namespace tsquant

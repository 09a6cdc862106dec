#pragma once

#include <vector>

#include "algorithms/bias_layers.h"

namespace tsquant {

/// Corrects biases one layer after the other, each with the inputs that it gets from quantized weights and the biases
/// corrected so far (activations stay in float). More accurate than FastBiasCorrection where errors accumulate, such
/// as with few bits, and slower: it runs a fifth of the calibration samples, at least one, again.
///
/// Source: nncf/quantization/algorithms/bias_correction. What is added to a bias depends on the reference:
/// - none: mean output of the float model minus the mean output now, so that a layer also takes back the errors of the
///   layers before it.
/// - kCollected: the same with NNCF's inputs. NNCF computes the input of a layer when the first of the layers that it
///   depends on is corrected, and keeps it; behind a merge of branches it then lacks the other branches' corrections.
/// - kSimulated: mean output with float weights minus mean output with quantized weights, on the same inputs.
///
/// All samples advance together from layer to layer, so that the whole correction costs one pass per sample, and keeps
/// only what later layers read. With kCollected, and when layers stand in branches or loops or the model keeps state
/// between samples, the whole model runs once per layer instead. A layer that no sample reaches keeps its bias.
///
/// Edits the biases in the model's graph. Layers with a bias keep it when max |shift / (bias + eps)| is not below the
/// threshold.
/// @param calibration how the statistics are collected; subset_size is that of the whole calibration
/// @throws Error as calibrate, kCancelled
std::vector<BiasRecord> bias_correction(Model& model, const GraphView& view, const Annotations& annotations,
                                        const QParamTable& qparams, const Dataset& dataset,
                                        const BiasCorrectionParameters& parameters, CalibrationOptions calibration);

}  // namespace tsquant

#pragma once

#include <memory>
#include <vector>

#include "algorithms/bias_layers.h"

namespace tsquant {

/// Corrects the biases of convolution and linear layers for the error that quantized weights add on average. Each layer
/// is looked at alone, with statistics of the float model, which come from the calibration run itself.
///
/// Source: nncf/quantization/algorithms/fast_bias_correction. What is added to a bias depends on the reference:
/// - kSimulated: mean output with float weights minus mean output with quantized weights, both on the float model's
///   inputs. Exact for every kernel, padding and stride, because a layer's mean output follows from KernelMean.
/// - kCollected, as NNCF: the collected mean output minus the mean output of the layer with quantized weights on a
///   constant input that is filled with the channel means.
class FastBiasCorrection {
 public:
  FastBiasCorrection(const Model& model, const GraphView& view, const Annotations& annotations,
                     const BiasCorrectionParameters& parameters);

  /// The statistics it needs, to be collected in the calibration run; pointers stay valid while this object lives.
  std::vector<ExtraTap> taps();

  /// Writes the corrected biases into the model's graph. Layers with a bias whose magnitude (infinite when an element
  /// of the bias is zero) is not below the threshold keep it.
  std::vector<BiasRecord> apply(Model& model, const QParamTable& qparams);

 private:
  struct Collected;
  at::Tensor shift_of(const Model& model, const Collected& layer, const QParams& qparams) const;

  BiasCorrectionParameters parameters_;
  std::vector<std::shared_ptr<Collected>> layers_;
};

}  // namespace tsquant

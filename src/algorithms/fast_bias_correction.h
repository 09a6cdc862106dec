#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "calibration/calibrator.h"
#include "tsquant/graph_view.h"

namespace tsquant {

/// Corrects the biases of convolution and linear layers for the error that quantized weights add on average.
///
/// Source: nncf/quantization/algorithms/fast_bias_correction. Per layer: a constant input filled with the float
/// model's channel means goes through the layer with quantized weights; the difference between the reference mean
/// output (BiasReference) and the mean of that result is added to the bias.
class FastBiasCorrection {
 public:
  /// Finds the correctable layers: quantized weight, and a bias that is a parameter or constant.
  FastBiasCorrection(const Model& model, const GraphView& view, const Annotations& annotations);

  /// The statistics it needs, to be collected in the calibration run; pointers stay valid while this object lives.
  std::vector<ExtraTap> taps();

  /// What happened to one layer.
  struct Record {
    std::string node;
    bool corrected = false;
    double magnitude = 0;  ///< largest |shift / bias|; infinite when a bias element is zero
  };

  /// Writes the corrected biases into the model's graph.
  /// Layers whose magnitude is not below the threshold (default 2) keep their bias.
  std::vector<Record> apply(Model& model, const QParamTable& qparams, const BiasCorrectionParameters& parameters);

 private:
  struct Layer;
  std::vector<std::shared_ptr<Layer>> layers_;
};

}  // namespace tsquant

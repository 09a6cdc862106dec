#pragma once

#include <string>
#include <vector>

#include "algorithms/kernel_mean.h"
#include "calibration/calibrator.h"
#include "graph/weighted_layer.h"
#include "tsquant/algorithm_parameters.h"
#include "tsquant/graph_view.h"

namespace tsquant {

/// A convolution or linear layer with a quantized weight whose bias can be corrected.
struct BiasLayer {
  std::string name;  ///< stable name
  torch::jit::Node* node = nullptr;
  bool has_bias = true;
  int64_t point = 0;                   ///< the weight's quantizer
  c10::optional<int64_t> input_point;  ///< the input's quantizer, when it has one
  int64_t axis = 1;                    ///< channel axis of the output
  TapPoint input_tap, output_tap;
};

/// What happened to one layer.
struct BiasRecord {
  std::string node;
  bool corrected = false;
  bool noise = false;    ///< kept because every channel's shift is below BiasCorrectionParameters::smallest_shift
  double magnitude = 0;  ///< largest |shift / bias|; infinite when the layer had no bias
  at::Tensor added;      ///< to the bias, one value per output channel; undefined when the bias was kept
};

/// The correctable layers in execution order: quantized weight, computed input, and a bias that is a parameter or
/// constant, or with `all_nodes` no bias at all.
std::vector<BiasLayer> find_bias_layers(const Model& model, const GraphView& view, const Annotations& annotations,
                                        bool all_nodes);

/// The layer's bias; zeros when it has none. @param channels number of output channels
at::Tensor bias_of(const Model& model, const BiasLayer& layer, int64_t channels);

/// Mean output with float weights minus mean output with quantized weights: float64 [output channels]. Quantizes large
/// weights in slices, to need little memory.
at::Tensor mean_weight_error(const KernelMean& inputs, const at::Tensor& weight, const QParams& qparams);

/// The layer's weight as its quantizer leaves it.
at::Tensor quantized_weight(const Model& model, const BiasLayer& layer, const QParams& qparams);

/// The shift with zeros where it is below the noise: see BiasCorrectionParameters::smallest_shift. Layers whose input
/// stays in float make no such noise.
at::Tensor without_noise(const Model& model, const BiasLayer& layer, const QParamTable& qparams,
                         const BiasCorrectionParameters& parameters, const at::Tensor& shift);

/// Adds what is left of a shift without its noise to the layer's bias, when the magnitude is below the threshold. A
/// layer that had no bias gets one whenever the shift is finite: there is nothing to compare the shift with.
/// @param exact              one value per output channel
/// @param magnitude          largest |exact / bias| as the algorithm defines it
/// @param default_threshold  for parameters without a threshold; none: every finite shift is accepted
BiasRecord correct_bias(Model& model, const BiasLayer& layer, const QParamTable& qparams,
                        const BiasCorrectionParameters& parameters, const at::Tensor& exact, double magnitude,
                        c10::optional<double> default_threshold);

}  // namespace tsquant

#pragma once

#include <ATen/core/Tensor.h>

#include <string>
#include <vector>

#include "calibration/calibrator.h"
#include "tsquant/algorithm_parameters.h"
#include "tsquant/dataset.h"
#include "tsquant/model.h"

namespace tsquant {

/// Layers that read one tensor and now read it through one multiply.
struct SmoothedGroup {
  std::string producer;             ///< stable name of what computes the tensor
  std::string multiply;             ///< stable name of the inserted multiply: `<producer>/smooth_quant/<ordinal>`
  std::vector<std::string> layers;  ///< stable names
  at::Tensor scale;                 ///< float32 [channels]: the multiply divides by it, the weights are multiplied
};

struct SmoothQuantResult {
  std::vector<SmoothedGroup> groups;
  int64_t found = 0;                  ///< groups of layers that were looked at; those left out have a warning
  std::vector<std::string> warnings;  ///< layers left out, and why
};

/// @throws Error kInvalidArgument when an alpha is above 1 or no number
void check_smooth_quant(const SmoothQuantParameters& parameters);

/// Moves wide channels of activations into weights: (x / s) (s W) = x W for each input channel. Linear layers and
/// convolutions (not depthwise) that read the same tensor share a scale, the most even one that any of them asks for.
/// Weights keep their state-dict names. A weight with several readers is scaled once, with one scale for all tensors
/// that its layers read; when something else reads it too, its layers are left out.
///
/// Source: nncf/quantization/algorithms/smooth_quant, with these differences: one multiply per group instead of one per
/// layer, grouped convolutions, shared weights.
/// Views of the model's graph built before are no longer valid.
/// @param calibration how the statistics pass runs; its taps are replaced
/// @throws Error as calibrate; kInvalidArgument as check_smooth_quant
SmoothQuantResult smooth_quant(Model& model, const Dataset& dataset, const SmoothQuantParameters& parameters,
                               CalibrationOptions calibration);

}  // namespace tsquant

#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

#include "tsquant/compression_parameters.h"

namespace tsquant {

/// What the metrics of sensitivity know of a layer's inputs, sample by sample. Source: the collectors of nncf
/// mixed_precision.py. Plain numbers, so that they can be stored and put back.
struct InputStatistics {
  int64_t samples = 0;
  /// t of t = (t + sum x^2) / numel(x): the older a sample, the less it counts. Kept as NNCF has it.
  double hessian_trace = 0;
  double mean_variance = 0;   ///< sum over samples of the mean over channels of the variance over rows
  double max_variance = 0;    ///< the same with the largest variance
  double mean_magnitude = 0;  ///< the same with the largest magnitude over rows

  /// Adds one sample; rows are the next to last axis, channels the last. One without values leaves no trace.
  /// @throws Error kInvalidArgument below two dimensions; kCalibration for NaN and infinite values
  void add(const at::Tensor& inputs);

  /// The factor of a metric that comes from the inputs; 1 for kWeightQuantizationError.
  /// @throws Error kCalibration without samples
  double factor(SensitivityMetric metric) const;
};

/// The score that NNCF gives to embeddings with a metric that needs data: they come first.
constexpr double kLowestSensitivity = 0;

/// How much a weight suffers from the primary precision, in the units of the metric: the higher, the later it gets it.
/// 8-bit codes are asymmetric, with one scale per output channel; their error is the largest mean square over channels,
/// or for kHessianInputActivation the Frobenius norm.
/// @param weight floating point, of a matrix multiplication or an embedding
/// @param ch_axis its output channels
/// @param statistics null for kWeightQuantizationError
/// @throws Error kInvalidArgument when the metric needs statistics, or the weight has no such axis
double sensitivity(const at::Tensor& weight, int64_t ch_axis, SensitivityMetric metric,
                   const InputStatistics* statistics = nullptr);

/// Which weights get the primary precision: in ascending order of scores, equal ones in the order given, as long as
/// their share of all values stays below `ratio`. 1: all; 0: none. Source: MixedPrecisionCriterion.apply.
/// @param sizes number of values of each weight
/// @throws Error kInvalidArgument for a ratio out of [0, 1], NaN among the scores, and lists of different length
std::vector<bool> assign_precision(const std::vector<double>& scores, const std::vector<int64_t>& sizes, double ratio);

}  // namespace tsquant

#pragma once

#include <vector>

#include "compression/group_codec.h"
#include "tsquant/compression_parameters.h"

namespace tsquant {

/// Refines the scale of single groups of weights by the error of their share of the layer's outputs,
/// mean over samples of ((w - q) . x)^2. The zero point stays. Source: nncf scale_estimation.py.
///
/// A scale is proposed from codes: the mean of |w / level|, weighted by the largest input of each channel; channels
/// whose first code is 0 have no weight. Codes come from the best scale so far, several times, and then from a grid of
/// smaller scales; the best proposal wins, a later one of equal error.
/// Where scales are powers of two, those on both sides of a proposal are tried.
class GroupScaleEstimator {
 public:
  /// @param inputs X of the channels of the group, float32 [channels, samples]
  /// @param magnitudes float32 [channels], not negative
  /// @throws Error kInvalidArgument for parameters out of their limits
  GroupScaleEstimator(const GroupCodec& codec, const at::Tensor& inputs, const at::Tensor& magnitudes,
                      const AdvancedScaleEstimationParameters& parameters);

  /// The best scale found for these weights; `scale` when none is better.
  /// @param w as many values as there are channels
  float estimate(const float* w, float scale, int64_t zero_point) const;

 private:
  struct Trial;

  double error_of(Trial& trial, float scale) const;
  void encode(Trial& trial, float scale) const;
  float propose(const Trial& trial) const;
  void try_scale(Trial& trial, float scale) const;
  void try_proposal(Trial& trial) const;

  const GroupCodec& codec_;
  AdvancedScaleEstimationParameters parameters_;
  std::vector<float> inputs_;  ///< [channels][samples]
  std::vector<double> magnitudes_;
  int64_t samples_;
};

}  // namespace tsquant

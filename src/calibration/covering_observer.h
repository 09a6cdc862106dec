#pragma once

#include <vector>

#include "calibration/range_estimators.h"

namespace tsquant {

/// The default range of an activation, per tensor: wide enough for 95 of 100 samples.
///
/// NNCF takes the mean of the samples' extrema, which clips about every second sample. On real data clipping costs far
/// more than rounding; the very largest of many extrema, on the other hand, belongs to a few odd samples and costs
/// resolution in all others. So each bound is the 95 % quantile of the samples' extrema (linear interpolation between
/// neighbours). An extreme that many samples reach exactly, such as the brightest value of an image, thus is the bound.
///
/// Fewer than 20 samples have less than one beyond that quantile, which then says no more than the largest of them
/// does: the range is NNCF's mean. A bound also stays the mean when the quantile lies on the other side of zero, so
/// that signs, and with them signedness, are decided as in NNCF.
class CoveringObserver : public RangeEstimatorObserver {
 public:
  static constexpr size_t kFewestSamples = 20;
  static constexpr double kCovered = 1 - 1.0 / kFewestSamples;

  /// @param params mean aggregators of minimum and maximum (or largest magnitude)
  CoveringObserver(const RangeEstimatorParameters& params, bool per_item)
      : RangeEstimatorObserver(params, c10::nullopt, per_item) {}

  void merge(const Observer& other) override;
  Range range() const override;
  std::vector<at::Tensor> state() const override;
  void set_state(const std::vector<at::Tensor>& state) override;
  void replay(const std::vector<at::Tensor>& summary) override;

 private:
  std::vector<float> lows_, highs_;  ///< one per sample with finite values
};

}  // namespace tsquant

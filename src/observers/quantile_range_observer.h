#pragma once

#include <vector>

#include "observers/range_estimators.h"

namespace tsquant {

/// The default range of an activation, per tensor: wide enough for 95 of 100 samples.
///
/// NNCF takes the mean of the samples' extrema, which clips about every second sample. On real data clipping costs far
/// more than rounding; the very largest of many extrema, on the other hand, belongs to a few odd samples and costs
/// resolution in all others. So each bound is the 95 % quantile of the samples' extrema (linear interpolation between
/// neighbours).
///
/// Fewer than 100 samples have fewer than five beyond that quantile, too few to tell where it lies: the range is NNCF's
/// mean. Only for inputs of the model, an extreme that at least two samples and one in 20 reach exactly, such as the
/// brightest value of images, is taken as the bound of the data. A bound also stays the mean when the quantile lies on
/// the other side of zero, so that signs, and with them signedness, are decided as in NNCF.
class QuantileRangeObserver : public RangeEstimatorObserver {
 public:
  static constexpr size_t kFewestSamples = 100;
  static constexpr double kCovered = 0.95;

  /// @param params mean aggregators of minimum and maximum (or largest magnitude)
  /// @param model_input whether the tensor is an input of the model
  QuantileRangeObserver(const RangeEstimatorParameters& params, bool per_item, bool model_input)
      : RangeEstimatorObserver(params, c10::nullopt, per_item), model_input_(model_input) {}

  void merge(const Observer& other) override;
  Range range() const override;
  /// Samples with finite values so far.
  int64_t samples() const { return static_cast<int64_t>(lows_.size()); }
  std::vector<at::Tensor> state() const override;
  void set_state(const std::vector<at::Tensor>& state) override;
  void replay(const std::vector<at::Tensor>& summary) override;

 private:
  at::Tensor bound(const at::Tensor& mean, std::vector<float> extrema, bool upper) const;

  bool model_input_;
  std::vector<float> lows_, highs_;  ///< one per sample with finite values
};

}  // namespace tsquant

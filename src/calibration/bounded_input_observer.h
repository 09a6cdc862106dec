#pragma once

#include <vector>

#include "calibration/range_estimators.h"

namespace tsquant {

/// The default range of a model input, per tensor: NNCF's mean of the samples' extrema, unless an extreme turns out to
/// be a bound of the data.
///
/// Means keep a rare outlier from widening the range. An image that was normalised from bytes has no outliers: many
/// samples reach exactly the same largest value, the one of byte 255. Averaging it with the darker samples' maxima
/// would clip every bright image, in the first layer, where the error reaches everything. So when at least two samples,
/// and one in 20, share the extreme exactly, it is the limit of the range. Each side is decided for itself; data
/// without such repetition give NNCF's numbers.
class BoundedInputObserver : public RangeEstimatorObserver {
 public:
  /// @param params mean aggregators of minimum and maximum (or largest magnitude)
  BoundedInputObserver(const RangeEstimatorParameters& params, bool per_item)
      : RangeEstimatorObserver(params, c10::nullopt, per_item) {}

  void merge(const Observer& other) override;
  Range range() const override;
  std::vector<at::Tensor> state() const override;
  void set_state(const std::vector<at::Tensor>& state) override;
  void replay(const std::vector<at::Tensor>& summary) override;

 private:
  /// The extreme of the samples' statistics and how many samples reach it.
  struct Bound {
    float value = 0;
    int64_t reached = 0, samples = 0;
    void add(float statistic, int64_t count, int64_t of, bool upper);
    bool is_bound() const { return reached >= 2 && reached * 20 >= samples; }
  };

  Bound low_, high_;
};

}  // namespace tsquant

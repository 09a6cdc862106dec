#pragma once

#include "observers/aggregator.h"
#include "observers/replayable.h"
#include "observers/tensor_rows.h"
#include "tsquant/observer.h"

namespace tsquant {

/// "min(quantile, mean, p=0.0001), max(...)"; unset fields are called "default".
std::string describe(const RangeEstimatorParameters& estimator);
/// Whether any field differs from the default.
bool is_set(const RangeEstimatorParameters& estimator);

/// One statistic per row: float32 [rows]. Rows must be finite and not empty.
/// @param q quantile, for the quantile statistics only
at::Tensor reduce_rows(const at::Tensor& rows, StatisticsType type, double q);

/// NNCF's way to a range: a statistic per sample for each bound, then an aggregator over samples. Min/max and the mean
/// of per-sample extrema are special cases.
class RangeEstimatorObserver : public Observer, public Replayable {
 public:
  /// @param params all fields of both bounds are set; no histogram
  RangeEstimatorObserver(const RangeEstimatorParameters& params, c10::optional<int64_t> axis, bool per_item);

  void observe(const at::Tensor& x) override;
  void merge(const Observer& other) override;
  Range range() const override;
  std::vector<at::Tensor> state() const override;
  void set_state(const std::vector<at::Tensor>& state) override;
  /// counters, and both statistics as float32 [items, channels]
  std::vector<at::Tensor> summary(const at::Tensor& x) const override;
  void replay(const std::vector<at::Tensor>& summary) override;

 private:
  at::Tensor statistic(const at::Tensor& rows, const RowExtrema& extrema, bool upper) const;
  at::Tensor statistic_of_finite(const at::Tensor& rows, bool upper) const;

  RangeEstimatorParameters params_;
  c10::optional<int64_t> axis_;
  bool per_item_;
  Aggregator min_, max_;
};

}  // namespace tsquant

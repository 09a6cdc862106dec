#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

#include "tsquant/range_estimator.h"

namespace tsquant {

/// Joins the per-sample statistics of one bound (NNCF's aggregators). The result does not depend on how the samples
/// were batched or in which order partial aggregators were merged: means are summed in double-double arithmetic, the
/// other types work on sorted values. NaN marks "no value" and is left out.
class Aggregator {
 public:
  /// @param outlier_prob only for the no-outliers types
  Aggregator(AggregatorType type, double outlier_prob) : type_(type), outlier_prob_(outlier_prob) {}

  /// @param values float32 [items, channels]; @throws Error kCalibration when the number of channels changes
  void add(const at::Tensor& values);
  void merge(const Aggregator& other);
  /// float32 [channels]; NaN for channels that never had a value.
  at::Tensor result() const;

  /// Of the values so far; 0 before there are any.
  int64_t channels() const;

  std::vector<at::Tensor> state() const;
  /// @throws Error kCalibration for what no aggregator of this type can have returned
  void set_state(const std::vector<at::Tensor>& state);
  static constexpr size_t kStateTensors = 3;

 private:
  /// Unevaluated sum high + low with |low| <= ulp(high) / 2.
  struct Sum {
    double high = 0, low = 0, count = 0;
    void add(double value);
  };

  void resize(int64_t channels);
  float finish(size_t channel) const;

  AggregatorType type_;
  double outlier_prob_;
  bool sized_ = false;
  std::vector<float> extreme_;               ///< kMin, kMax
  std::vector<Sum> sums_;                    ///< kMean
  std::vector<std::vector<float>> samples_;  ///< the other types, one list per channel
};

/// The q-quantile with linear interpolation between neighbours (numpy's default). Reorders `values`; not empty.
double quantile(std::vector<float>& values, double q);

}  // namespace tsquant

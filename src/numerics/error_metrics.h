#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace tsquant {

/// Distance between reference values and approximations, streamed over many tensors. Sums are kept in float64.
class ErrorMetrics {
 public:
  /// @param reference, value same shape; any floating or integer type. NaN in either makes the metrics NaN.
  /// @throws Error kInvalidArgument when the shapes differ
  void add(const at::Tensor& reference, const at::Tensor& value);
  void merge(const ErrorMetrics& other);

  /// 10 log10(sum r^2 / sum (r - v)^2): +infinity for equal values, -infinity for a zero reference with errors.
  double sqnr_db() const;
  /// Cosine of the angle between both: 1 when both are zero, 0 when one of them is.
  double cosine() const;
  double max_abs_error() const { return max_abs_error_; }
  double mean_squared_error() const;
  int64_t count() const { return count_; }

 private:
  double signal_ = 0, noise_ = 0, dot_ = 0, power_ = 0, max_abs_error_ = 0;
  int64_t count_ = 0;
};

double sqnr_db(const at::Tensor& reference, const at::Tensor& value);
double cosine(const at::Tensor& reference, const at::Tensor& value);
double max_abs_error(const at::Tensor& reference, const at::Tensor& value);

}  // namespace tsquant

#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

namespace tsquant {

/// How many different values a tensor takes, up to a few: enough to see that the data say little about its range.
class DistinctValues {
 public:
  static constexpr size_t kMany = 16;

  void observe(const at::Tensor& x);
  /// Different values so far; kMany stands for that many or more.
  size_t count() const { return values_.size(); }
  /// Values looked at; no more are after kMany different ones were found.
  int64_t seen() const { return seen_; }

 private:
  std::vector<float> values_;
  int64_t seen_ = 0;
};

}  // namespace tsquant

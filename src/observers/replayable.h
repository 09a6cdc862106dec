#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

namespace tsquant {

/// An observer whose `observe` has two halves: a summary of one tensor, which does not depend on earlier tensors, and
/// the replay of a summary into the statistics. Processes that calibrate together exchange summaries and replay all of
/// them in the order of the samples, so that each ends with the bits that one process would have got; sums of floating
/// point numbers, moving averages and growing histograms all depend on that order.
class Replayable {
 public:
  virtual ~Replayable() = default;
  /// Small contiguous tensors of types float32, float64 and int64. The first is int64 [3]: batches (0 or 1), values
  /// that are NaN or infinite, values that are NaN. Always the same number of tensors.
  virtual std::vector<at::Tensor> summary(const at::Tensor& x) const = 0;
  /// `observe(x)` equals `replay(summary(x))`.
  virtual void replay(const std::vector<at::Tensor>& summary) = 0;
};

/// The first tensor of a summary.
at::Tensor counter_tensor(int64_t batches, int64_t non_finite, int64_t not_a_number);

}  // namespace tsquant

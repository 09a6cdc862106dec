#pragma once

#include <ATen/ATen.h>

#include "observers/histogram.h"
#include "tsquant/observer.h"

namespace tsquant {

/// The range that minimises the expected squared quantization error of all values seen, per tensor.
///
/// The bins depend on the range of all earlier data, so no small summary of one tensor exists. Processes that calibrate
/// together run their samples twice: first `limits`, exchanged and joined in the order of the samples, tell the range
/// that one process would have had at each tensor; then `bins` counts each tensor over that range.
class HistogramObserver : public Observer {
 public:
  void observe(const at::Tensor& x) override;
  void merge(const Observer& other) override;
  Range range() const override;
  std::vector<at::Tensor> state() const override;
  void set_state(const std::vector<at::Tensor>& state) override;

  /// Counters (see Replayable) and float32 [2], the smallest and largest finite value; empty when there is none.
  std::vector<at::Tensor> limits(const at::Tensor& x) const;
  /// int64 [bins]: the finite values of `x` over [min, max].
  at::Tensor bins(const at::Tensor& x, float min, float max) const;
  /// Adds the sum of `bins` of several tensors over the same range. Ranges must grow from call to call.
  void add(const at::Tensor& bins, float min, float max);
  /// Adds the sum of the counters of `limits`.
  void add(const at::Tensor& counters) { set_counters(this->counters() + counters); }

  const Histogram& histogram() const { return histogram_; }

 private:
  Histogram histogram_;
};

}  // namespace tsquant

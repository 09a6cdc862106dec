#pragma once

#include "observers/replayable.h"
#include "tsquant/observer.h"

namespace tsquant {

/// torch.ao's MovingAverage(PerChannel)MinMaxObserver: the first batch sets min and max, each later batch moves them by
/// `averaging_constant` times the difference. The result depends on the order of the batches; merging two observers
/// weights them by their numbers of batches.
class MovingAverageObserver : public Observer, public Replayable {
 public:
  explicit MovingAverageObserver(c10::optional<int64_t> axis, double averaging_constant = 0.01)
      : axis_(axis), constant_(static_cast<float>(averaging_constant)) {}

  void observe(const at::Tensor& x) override;
  void merge(const Observer& other) override;
  Range range() const override;
  std::vector<at::Tensor> state() const override;
  void set_state(const std::vector<at::Tensor>& state) override;
  /// counters, minima and maxima as float32 [channels]
  std::vector<at::Tensor> summary(const at::Tensor& x) const override;
  void replay(const std::vector<at::Tensor>& summary) override;

 private:
  c10::optional<int64_t> axis_;
  float constant_;
  at::Tensor min_, max_;  ///< float32 [channels]; NaN for a channel without a finite value so far
};

}  // namespace tsquant

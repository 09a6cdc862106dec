#pragma once

#include <vector>

#include "observers/replayable.h"
#include "tsquant/observer.h"

namespace tsquant {

/// Mean of a tensor per channel, averaged over batches, and the shape of the first batch.
class ChannelMean : public Observer, public Replayable {
 public:
  /// @param axis channel axis; negative counts from the end
  explicit ChannelMean(int64_t axis) : axis_(axis) {}

  void observe(const at::Tensor& x) override;
  void merge(const Observer& other) override;
  Range range() const override;
  std::vector<at::Tensor> state() const override;
  void set_state(const std::vector<at::Tensor>& state) override;
  /// counters, the means of one batch as float64 [channels], its shape
  std::vector<at::Tensor> summary(const at::Tensor& x) const override;
  void replay(const std::vector<at::Tensor>& summary) override;

  /// float32 [channels]; undefined when nothing was observed
  at::Tensor mean() const;
  const std::vector<int64_t>& first_shape() const { return first_shape_; }

 private:
  int64_t axis_;
  at::Tensor sum_;  // double [channels], sum of the batch means
  std::vector<int64_t> first_shape_;
};

/// Mean over all axes but one, float64 [size of axis]; the same bits for every number of threads.
at::Tensor mean_per_channel(const at::Tensor& x, int64_t axis);

}  // namespace tsquant

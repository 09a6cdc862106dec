#include "algorithms/channel_mean.h"

#include <ATen/ATen.h>

#include "tsquant/error.h"

namespace tsquant {

at::Tensor mean_per_channel(const at::Tensor& x, int64_t axis) {
  if (x.dim() == 1) return x.to(c10::kDouble);
  const int64_t channel = at::maybe_wrap_dim(axis, x.dim());
  std::vector<int64_t> others;
  for (int64_t d = 0; d < x.dim(); ++d) {
    if (d != channel) others.push_back(d);
  }
  return x.mean(others, /*keepdim=*/false, c10::kDouble);
}

void ChannelMean::observe(const at::Tensor& x) { replay(summary(x)); }

std::vector<at::Tensor> ChannelMean::summary(const at::Tensor& x) const {
  if (x.numel() == 0 || x.dim() == 0) {
    return {counter_tensor(0, 0, 0), at::empty({0}, c10::kDouble), at::empty({0}, c10::kLong)};
  }
  return {counter_tensor(1, 0, 0), mean_per_channel(x, axis_), at::tensor(x.sizes(), c10::kLong)};
}

void ChannelMean::replay(const std::vector<at::Tensor>& summary) {
  const auto& mean = summary.at(1);
  if (mean.numel() == 0) return;
  if (batches_ == 0) {
    sum_ = mean.clone();
    const auto& shape = summary.at(2);
    first_shape_.assign(shape.data_ptr<int64_t>(), shape.data_ptr<int64_t>() + shape.numel());
  } else {
    sum_.add_(mean);
  }
  set_counters(counters() + summary[0]);
}

void ChannelMean::merge(const Observer& other) {
  const auto& that = dynamic_cast<const ChannelMean&>(other);
  if (that.batches_ == 0) return;
  if (batches_ == 0) {
    sum_ = that.sum_.clone();
    first_shape_ = that.first_shape_;
  } else {
    sum_.add_(that.sum_);
  }
  batches_ += that.batches_;
}

Range ChannelMean::range() const {
  const at::Tensor value = mean();
  if (!value.defined()) throw Error(ErrorCode::kCalibration, "no channel means were collected");
  return {value, value};
}

std::vector<at::Tensor> ChannelMean::state() const {
  return {sum_.defined() ? sum_ : at::empty({0}, c10::kDouble), at::tensor(first_shape_, c10::kLong),
          at::tensor({batches_}, c10::kLong)};
}

void ChannelMean::set_state(const std::vector<at::Tensor>& state) {
  if (state.size() != 3) throw Error(ErrorCode::kCalibration, "the saved state of a channel mean has 3 tensors");
  sum_ = state[0].clone();
  const auto shape = state[1].contiguous();
  first_shape_.assign(shape.data_ptr<int64_t>(), shape.data_ptr<int64_t>() + shape.numel());
  batches_ = state[2].item<int64_t>();
}

at::Tensor ChannelMean::mean() const {
  return batches_ == 0 ? at::Tensor() : sum_.div(static_cast<double>(batches_)).to(c10::kFloat);
}

}  // namespace tsquant

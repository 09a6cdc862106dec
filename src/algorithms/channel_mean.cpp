#include "algorithms/channel_mean.h"

#include <ATen/ATen.h>

#include "algorithms/sequential_sum.h"
#include "observers/saved_state.h"
#include "tsquant/error.h"

namespace tsquant {

at::Tensor mean_per_channel(const at::Tensor& x, int64_t axis) {
  if (x.dim() == 1) return x.to(c10::kDouble);
  const int64_t channel = at::maybe_wrap_dim(axis, x.dim());
  const at::Tensor dense = x.to(c10::kFloat).contiguous();
  const int64_t channels = x.size(channel);
  int64_t inner = 1;
  for (int64_t d = channel + 1; d < x.dim(); ++d) inner *= x.size(d);
  auto mean = at::zeros({channels}, c10::kDouble);
  if (x.numel() == 0) return mean;
  const int64_t outer = x.numel() / (channels * inner);
  const float* data = dense.data_ptr<float>();
  auto* sums = mean.data_ptr<double>();
  if (inner == 1) {
    add_rows(sums, data, outer, channels);
  } else {
    for (int64_t row = 0; row < outer * channels; ++row) sums[row % channels] += sum_of(data + row * inner, inner);
  }
  for (int64_t c = 0; c < channels; ++c) sums[c] /= static_cast<double>(outer * inner);
  return mean;
}

std::vector<at::Tensor> ChannelMean::summary(const at::Tensor& x) const {
  const bool empty = x.numel() == 0 || x.dim() == 0;
  return {counter_tensor(empty ? 0 : 1, 0, 0), empty ? at::empty({0}, c10::kDouble) : mean_per_channel(x, axis_),
          at::tensor(x.sizes(), c10::kLong)};
}

void ChannelMean::replay(const std::vector<at::Tensor>& summary) {
  const int64_t batches = summary.at(0).data_ptr<int64_t>()[0];
  if (batches == 0) return;
  if (batches_ == 0) {
    const auto& shape = summary.at(2);
    sum_ = summary.at(1).clone();
    first_shape_.assign(shape.data_ptr<int64_t>(), shape.data_ptr<int64_t>() + shape.numel());
  } else {
    sum_.add_(summary.at(1));
  }
  batches_ += batches;
}

void ChannelMean::observe(const at::Tensor& x) { replay(summary(x)); }

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
  const SavedState saved(state, 3);
  const at::Tensor sum = saved.at(0, c10::kDouble, 1), shape = saved.at(1, c10::kLong, 1),
                   batches = saved.at(2, c10::kLong, 1);
  require_saved(batches.numel() == 1 && are_counts(batches) && are_counts(shape),
                "the counts of a channel mean are wrong");
  batches_ = batches.item<int64_t>();
  require_saved((batches_ == 0) == (sum.numel() == 0) && at::isfinite(sum).all().item<bool>(),
                "the values of a channel mean are wrong");
  const int64_t channel = shape.numel() < 2 || axis_ >= 0 ? std::min(axis_, shape.numel() - 1) : axis_ + shape.numel();
  require_saved(batches_ == 0 || (channel >= 0 && shape.data_ptr<int64_t>()[channel] == sum.numel()),
                "a channel mean has a wrong number of channels");
  sum_ = sum.clone();
  first_shape_.assign(shape.data_ptr<int64_t>(), shape.data_ptr<int64_t>() + shape.numel());
}

at::Tensor ChannelMean::mean() const {
  return batches_ == 0 ? at::Tensor() : sum_.div(static_cast<double>(batches_)).to(c10::kFloat);
}

}  // namespace tsquant

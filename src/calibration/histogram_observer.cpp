#include "calibration/histogram_observer.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include "calibration/rows.h"
#include "tsquant/error.h"

namespace tsquant {

void HistogramObserver::observe(const at::Tensor& x) {
  if (x.numel() == 0) return;
  auto values = to_rows(x, c10::nullopt, false).values;
  auto extrema = row_extrema(values);
  if (!extrema.finite()) {
    const auto bad = count_non_finite(values);
    non_finite_ += bad.nan + bad.infinite;
    not_a_number_ += bad.nan;
    values = values.masked_select(at::isfinite(values)).unsqueeze(0);
    if (values.numel() == 0) return;
    extrema = row_extrema(values);
  }
  histogram_.add(values.data_ptr<float>(), values.numel(), extrema.min.item<float>(), extrema.max.item<float>());
  ++batches_;
}

void HistogramObserver::merge(const Observer& other) {
  const auto* same = dynamic_cast<const HistogramObserver*>(&other);
  if (!same) throw Error(ErrorCode::kInternal, "statistics of different kinds cannot be merged");
  histogram_.merge(same->histogram_);
  add_counters(other);
}

Range HistogramObserver::range() const {
  if (batches_ == 0) throw Error(ErrorCode::kCalibration, "no values were observed");
  const auto found = histogram_.search();
  return {at::full({1}, found.first, at::kFloat), at::full({1}, found.second, at::kFloat)};
}

std::vector<at::Tensor> HistogramObserver::state() const {
  const auto& counts = histogram_.counts();
  auto bins = at::empty({static_cast<int64_t>(counts.size())}, at::kDouble);
  std::copy(counts.begin(), counts.end(), bins.data_ptr<double>());
  auto limits = at::empty({2}, at::kFloat);
  limits.data_ptr<float>()[0] = histogram_.min();
  limits.data_ptr<float>()[1] = histogram_.max();
  return {counters(), bins, limits};
}

void HistogramObserver::set_state(const std::vector<at::Tensor>& state) {
  if (state.size() != 3 || state[2].numel() != 2) {
    throw Error(ErrorCode::kInternal, fmt::format("a saved histogram has {} tensors", state.size()));
  }
  set_counters(state[0]);
  const auto bins = state[1].contiguous();
  const double* data = bins.data_ptr<double>();
  histogram_ = Histogram({data, data + bins.numel()}, state[2][0].item<float>(), state[2][1].item<float>());
}

}  // namespace tsquant

#include "observers/moving_average_observer.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <cmath>

#include "observers/saved_state.h"
#include "observers/tensor_rows.h"
#include "tsquant/error.h"

namespace tsquant {

namespace {

/// Finite extrema of each row; NaN when a row has none.
RowExtrema finite_extrema(const at::Tensor& rows) {
  const auto usable = at::isfinite(rows);
  RowExtrema result{at::amin(at::where(usable, rows, at::full_like(rows, INFINITY)), {1}),
                    at::amax(at::where(usable, rows, at::full_like(rows, -INFINITY)), {1})};
  const auto none = at::isinf(result.min);
  result.min.masked_fill_(none, NAN);
  result.max.masked_fill_(none, NAN);
  return result;
}

/// old + weight * (now - old) in float32 as torch.ao computes it; in float64 where the difference overflows.
void move_towards(at::Tensor& old, const at::Tensor& now, float weight) {
  float* a = old.data_ptr<float>();
  const float* b = now.data_ptr<float>();
  for (int64_t i = 0; i < old.numel(); ++i) {
    if (std::isnan(b[i])) continue;
    const float difference = b[i] - a[i];
    if (std::isnan(a[i])) {
      a[i] = b[i];
    } else if (std::isfinite(difference)) {
      a[i] += weight * difference;
    } else {
      a[i] = static_cast<float>(static_cast<double>(a[i]) + weight * (static_cast<double>(b[i]) - a[i]));
    }
  }
}

}  // namespace

void MovingAverageObserver::observe(const at::Tensor& x) { replay(summary(x)); }

std::vector<at::Tensor> MovingAverageObserver::summary(const at::Tensor& x) const {
  const auto none = at::empty({0}, at::kFloat);
  if (x.numel() == 0) return {counter_tensor(0, 0, 0), none, none};
  const auto rows = to_rows(x, axis_, false);
  auto extrema = row_extrema(rows.values);
  if (extrema.finite()) return {counter_tensor(1, 0, 0), extrema.min, extrema.max};
  const auto bad = count_non_finite(rows.values);
  const int64_t unusable = bad.nan + bad.infinite;
  if (unusable == rows.values.numel()) return {counter_tensor(0, unusable, bad.nan), none, none};
  extrema = finite_extrema(rows.values);
  return {counter_tensor(1, unusable, bad.nan), extrema.min, extrema.max};
}

void MovingAverageObserver::replay(const std::vector<at::Tensor>& summary) {
  const auto& min = summary.at(1);
  const auto& max = summary.at(2);
  set_counters(counters() + summary[0]);
  if (min.numel() == 0) return;
  if (!min_.defined()) {
    min_ = min.clone();
    max_ = max.clone();
    return;
  }
  if (min_.numel() != min.numel()) {
    throw Error(ErrorCode::kCalibration,
                fmt::format("the number of channels changed from {} to {}", min_.numel(), min.numel()), "",
                "quantize this tensor per tensor");
  }
  move_towards(min_, min, constant_);
  move_towards(max_, max, constant_);
}

void MovingAverageObserver::merge(const Observer& other) {
  const auto* same = dynamic_cast<const MovingAverageObserver*>(&other);
  if (!same) throw Error(ErrorCode::kInternal, "statistics of different kinds cannot be merged");
  if (same->batches_ > 0 && batches_ > 0) {
    const auto share =
        static_cast<float>(static_cast<double>(same->batches_) / static_cast<double>(batches_ + same->batches_));
    move_towards(min_, same->min_, share);
    move_towards(max_, same->max_, share);
  } else if (same->batches_ > 0) {
    min_ = same->min_.clone();
    max_ = same->max_.clone();
  }
  add_counters(other);
}

Range MovingAverageObserver::range() const {
  if (batches_ == 0) throw Error(ErrorCode::kCalibration, "no values were observed");
  return {at::nan_to_num(min_, 0.0), at::nan_to_num(max_, 0.0)};
}

std::vector<at::Tensor> MovingAverageObserver::state() const {
  const auto empty = at::empty({0}, at::kFloat);
  return {counters(), min_.defined() ? min_.clone() : empty, max_.defined() ? max_.clone() : empty};
}

void MovingAverageObserver::set_state(const std::vector<at::Tensor>& state) {
  const SavedState saved(state, 3);
  const at::Tensor min = saved.at(1, at::kFloat, 1), max = saved.at(2, at::kFloat, 1);
  set_counters(saved.counters(0));
  require_saved(min.numel() == max.numel() && (axis_ || min.numel() <= 1) && (batches_ == 0) == (min.numel() == 0),
                "a moving average has a wrong number of channels");
  require_saved(!at::isinf(min).any().item<bool>() && !at::isinf(max).any().item<bool>(),
                "a moving average is infinite");
  min_ = min.numel() > 0 ? min.clone() : at::Tensor();
  max_ = max.numel() > 0 ? max.clone() : at::Tensor();
}

}  // namespace tsquant

#include "calibration/bounded_input_observer.h"

#include <ATen/ATen.h>

#include <cmath>

#include "tsquant/error.h"

namespace tsquant {

void BoundedInputObserver::Bound::add(float statistic, int64_t count, int64_t of, bool upper) {
  samples += of;
  if (count == 0) return;
  if (reached == 0 || (upper ? statistic > value : statistic < value)) {
    value = statistic;
    reached = count;
  } else if (statistic == value) {
    reached += count;
  }
}

void BoundedInputObserver::replay(const std::vector<at::Tensor>& summary) {
  for (const bool upper : {false, true}) {
    const at::Tensor statistics = summary.at(upper ? 2 : 1).contiguous();
    const float* values = statistics.data_ptr<float>();
    for (int64_t i = 0; i < statistics.numel(); ++i) {
      if (!std::isnan(values[i])) (upper ? high_ : low_).add(values[i], 1, 1, upper);
    }
  }
  RangeEstimatorObserver::replay(summary);
}

void BoundedInputObserver::merge(const Observer& other) {
  const auto* same = dynamic_cast<const BoundedInputObserver*>(&other);
  if (!same) throw Error(ErrorCode::kInternal, "statistics of different kinds cannot be merged");
  low_.add(same->low_.value, same->low_.reached, same->low_.samples, false);
  high_.add(same->high_.value, same->high_.reached, same->high_.samples, true);
  RangeEstimatorObserver::merge(other);
}

Range BoundedInputObserver::range() const {
  Range range = RangeEstimatorObserver::range();
  if (low_.is_bound()) range.min = at::full_like(range.min, low_.value);
  if (high_.is_bound()) range.max = at::full_like(range.max, high_.value);
  return range;
}

std::vector<at::Tensor> BoundedInputObserver::state() const {
  auto state = RangeEstimatorObserver::state();
  state.push_back(at::tensor({low_.value, high_.value}, at::kFloat));
  state.push_back(at::tensor({low_.reached, low_.samples, high_.reached, high_.samples}, at::kLong));
  return state;
}

void BoundedInputObserver::set_state(const std::vector<at::Tensor>& state) {
  if (state.size() < 2) throw Error(ErrorCode::kInternal, "a saved input observer has too few tensors");
  RangeEstimatorObserver::set_state({state.begin(), state.end() - 2});
  const at::Tensor values = state[state.size() - 2].contiguous(), counts = state.back().contiguous();
  const int64_t* count = counts.data_ptr<int64_t>();
  low_ = {values.data_ptr<float>()[0], count[0], count[1]};
  high_ = {values.data_ptr<float>()[1], count[2], count[3]};
}

}  // namespace tsquant

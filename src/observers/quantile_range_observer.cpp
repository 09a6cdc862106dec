#include "observers/quantile_range_observer.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>

#include "observers/saved_state.h"
#include "tsquant/error.h"

namespace tsquant {

namespace {

void append(std::vector<float>& list, const at::Tensor& values) {
  const at::Tensor dense = values.contiguous();
  const float* data = dense.data_ptr<float>();
  for (int64_t i = 0; i < dense.numel(); ++i) {
    if (!std::isnan(data[i])) list.push_back(data[i]);
  }
}

at::Tensor as_tensor(const std::vector<float>& list) {
  auto result = at::empty({static_cast<int64_t>(list.size())}, at::kFloat);
  std::copy(list.begin(), list.end(), result.data_ptr<float>());
  return result;
}

/// Whether samples end at this extreme because the data do.
bool is_limit(const std::vector<float>& extrema, float extreme) {
  const auto reached = static_cast<size_t>(std::count(extrema.begin(), extrema.end(), extreme));
  return reached >= 2 && reached * 20 >= extrema.size();
}

}  // namespace

void QuantileRangeObserver::replay(const std::vector<at::Tensor>& summary) {
  append(lows_, summary.at(1));
  append(highs_, summary.at(2));
  RangeEstimatorObserver::replay(summary);
}

void QuantileRangeObserver::merge(const Observer& other) {
  const auto* same = dynamic_cast<const QuantileRangeObserver*>(&other);
  if (!same) throw Error(ErrorCode::kInternal, "statistics of different kinds cannot be merged");
  lows_.insert(lows_.end(), same->lows_.begin(), same->lows_.end());
  highs_.insert(highs_.end(), same->highs_.begin(), same->highs_.end());
  RangeEstimatorObserver::merge(other);
}

Range QuantileRangeObserver::range() const {
  const Range mean = RangeEstimatorObserver::range();
  return {bound(mean.min, lows_, false), bound(mean.max, highs_, true)};
}

at::Tensor QuantileRangeObserver::bound(const at::Tensor& mean, std::vector<float> extrema, bool upper) const {
  if (extrema.size() >= kFewestSamples) {
    const double covering = quantile(extrema, upper ? kCovered : 1 - kCovered), middle = mean.item<double>();
    const bool same_side = (covering < 0) == (middle < 0) && (covering > 0) == (middle > 0);
    return same_side ? at::full_like(mean, covering) : mean;
  }
  if (!model_input_ || extrema.empty()) return mean;
  const float extreme =
      upper ? *std::max_element(extrema.begin(), extrema.end()) : *std::min_element(extrema.begin(), extrema.end());
  return is_limit(extrema, extreme) ? at::full_like(mean, extreme) : mean;
}

std::vector<at::Tensor> QuantileRangeObserver::state() const {
  auto state = RangeEstimatorObserver::state();
  state.push_back(as_tensor(lows_));
  state.push_back(as_tensor(highs_));
  return state;
}

void QuantileRangeObserver::set_state(const std::vector<at::Tensor>& state) {
  constexpr size_t kOfRange = 1 + 2 * Aggregator::kStateTensors;
  const SavedState saved(state, kOfRange + 2);
  RangeEstimatorObserver::set_state({state.begin(), state.end() - 2});
  lows_.clear();
  highs_.clear();
  append(lows_, saved.at(kOfRange, at::kFloat, 1));
  append(highs_, saved.at(kOfRange + 1, at::kFloat, 1));
}

}  // namespace tsquant

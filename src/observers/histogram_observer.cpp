#include "observers/histogram_observer.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include "observers/replayable.h"
#include "observers/saved_state.h"
#include "observers/tensor_rows.h"
#include "tsquant/error.h"

namespace tsquant {

namespace {

/// The finite values of a tensor as one row, and what was left out.
struct FiniteValues {
  at::Tensor values;
  NonFinite bad;
  float min = 0, max = 0;
};

FiniteValues finite_values(const at::Tensor& x) {
  FiniteValues result;
  result.values = to_rows(x, c10::nullopt, false).values;
  if (result.values.numel() == 0) return result;
  auto extrema = row_extrema(result.values);
  if (!extrema.finite()) {
    result.bad = count_non_finite(result.values);
    result.values = result.values.masked_select(at::isfinite(result.values)).unsqueeze(0);
    if (result.values.numel() == 0) return result;
    extrema = row_extrema(result.values);
  }
  result.min = extrema.min.item<float>();
  result.max = extrema.max.item<float>();
  return result;
}

}  // namespace

void HistogramObserver::observe(const at::Tensor& x) {
  const auto finite = finite_values(x);
  non_finite_ += finite.bad.nan + finite.bad.infinite;
  not_a_number_ += finite.bad.nan;
  if (finite.values.numel() == 0) return;
  histogram_.add(finite.values.data_ptr<float>(), finite.values.numel(), finite.min, finite.max);
  ++batches_;
}

std::vector<at::Tensor> HistogramObserver::limits(const at::Tensor& x) const {
  const auto finite = finite_values(x);
  const bool any = finite.values.numel() > 0;
  auto limits = at::empty({any ? 2 : 0}, at::kFloat);
  if (any) limits.data_ptr<float>()[0] = finite.min, limits.data_ptr<float>()[1] = finite.max;
  return {counter_tensor(any ? 1 : 0, finite.bad.nan + finite.bad.infinite, finite.bad.nan), limits};
}

at::Tensor HistogramObserver::bins(const at::Tensor& x, float min, float max) const {
  const auto values = to_rows(x, c10::nullopt, false).values;
  const auto size = static_cast<int64_t>(histogram_.fresh().size());
  const auto counts = count_bins(values.data_ptr<float>(), values.numel(), min, max, size);
  return at::tensor(counts, at::kLong);
}

void HistogramObserver::add(const at::Tensor& bins, float min, float max) {
  const auto dense = bins.contiguous();
  const int64_t* data = dense.data_ptr<int64_t>();
  histogram_.add_counts({data, data + dense.numel()}, min, max);
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
  const auto& spread = histogram_.spread();
  const auto& fresh = histogram_.fresh();
  auto limits = at::empty({2}, at::kFloat);
  limits.data_ptr<float>()[0] = histogram_.min();
  limits.data_ptr<float>()[1] = histogram_.max();
  return {counters(), at::tensor(spread, at::kDouble), at::tensor(fresh, at::kLong), limits};
}

void HistogramObserver::set_state(const std::vector<at::Tensor>& state) {
  const SavedState saved(state, 4);
  set_counters(saved.counters(0));
  const at::Tensor spread = saved.at(1, at::kDouble, 1), fresh = saved.at(2, at::kLong, 1),
                   limits = saved.at(3, at::kFloat, 1);
  const auto bins = static_cast<int64_t>(histogram_.fresh().size());
  require_saved(spread.numel() == bins && fresh.numel() == bins && are_counts(spread) && are_counts(fresh),
                "the counts of a histogram are wrong");
  require_saved(limits.numel() == 2 && at::isfinite(limits).all().item<bool>(), "the limits of a histogram are wrong");
  const float min = limits.data_ptr<float>()[0], max = limits.data_ptr<float>()[1];
  require_saved((batches_ == 0) == (min > max), "a histogram without values has a range, or one with values has none");
  const double* parts = spread.data_ptr<double>();
  const int64_t* counts = fresh.data_ptr<int64_t>();
  histogram_ = Histogram({parts, parts + spread.numel()}, {counts, counts + fresh.numel()}, min, max);
}

}  // namespace tsquant

#include "observers/aggregator.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "observers/saved_state.h"
#include "tsquant/error.h"

namespace tsquant {

namespace {

double sorted_quantile(const std::vector<float>& sorted, double q) {
  const double position = q * static_cast<double>(sorted.size() - 1);
  const auto below = static_cast<size_t>(position);
  const size_t above = std::min(below + 1, sorted.size() - 1);
  const double a = sorted[below], b = sorted[above];
  return a + (position - static_cast<double>(below)) * (b - a);
}

/// NoOutliersAggregatorBase: samples strictly outside the quantiles over samples are dropped.
std::vector<float> without_outliers(const std::vector<float>& sorted, double prob) {
  const double low = sorted_quantile(sorted, prob), high = sorted_quantile(sorted, 1 - prob);
  std::vector<float> kept;
  for (float x : sorted) {
    if (x >= low && x <= high) kept.push_back(x);
  }
  return kept;
}

double mean(const std::vector<float>& values) {
  double sum = 0;
  for (float x : values) sum += x;
  return sum / static_cast<double>(values.size());
}

}  // namespace

double quantile(std::vector<float>& values, double q) {
  const double position = q * static_cast<double>(values.size() - 1);
  const auto below = static_cast<size_t>(position);
  const auto nth = values.begin() + static_cast<std::ptrdiff_t>(below);
  std::nth_element(values.begin(), nth, values.end());
  const double a = *nth;
  if (below + 1 == values.size()) return a;
  const double b = *std::min_element(nth + 1, values.end());
  return a + (position - static_cast<double>(below)) * (b - a);
}

/// Knuth's two-sum, then renormalised.
void Aggregator::Sum::add(double value) {
  const double total = high + value;
  const double part = total - high;
  const double error = (high - (total - part)) + (value - part) + low;
  high = total + error;
  low = error - (high - total);
}

void Aggregator::resize(int64_t channels) {
  const auto size = static_cast<size_t>(channels);
  const auto known = std::max({extreme_.size(), sums_.size(), samples_.size()});
  if (sized_) {
    if (known == size) return;
    throw Error(ErrorCode::kCalibration, fmt::format("the number of channels changed from {} to {}", known, size), "",
                "quantize this tensor per tensor");
  }
  sized_ = true;
  switch (type_) {
    case AggregatorType::kMin:
      extreme_.assign(size, std::numeric_limits<float>::infinity());
      break;
    case AggregatorType::kMax:
      extreme_.assign(size, -std::numeric_limits<float>::infinity());
      break;
    case AggregatorType::kMean:
      sums_.resize(size);
      break;
    default:
      samples_.resize(size);
  }
}

void Aggregator::add(const at::Tensor& values) {
  const int64_t channels = values.size(1);
  resize(channels);
  const auto dense = values.contiguous();
  const float* data = dense.data_ptr<float>();
  for (int64_t i = 0; i < dense.numel(); ++i) {
    const float x = data[i];
    if (std::isnan(x)) continue;
    const auto c = static_cast<size_t>(i % channels);
    switch (type_) {
      case AggregatorType::kMin:
        extreme_[c] = std::min(extreme_[c], x);
        break;
      case AggregatorType::kMax:
        extreme_[c] = std::max(extreme_[c], x);
        break;
      case AggregatorType::kMean:
        sums_[c].add(x);
        sums_[c].count += 1;
        break;
      default:
        samples_[c].push_back(x);
    }
  }
}

void Aggregator::merge(const Aggregator& other) {
  if (!other.sized_) return;
  resize(static_cast<int64_t>(std::max({other.extreme_.size(), other.sums_.size(), other.samples_.size()})));
  for (size_t c = 0; c < extreme_.size(); ++c) {
    extreme_[c] = type_ == AggregatorType::kMin ? std::min(extreme_[c], other.extreme_[c])
                                                : std::max(extreme_[c], other.extreme_[c]);
  }
  for (size_t c = 0; c < sums_.size(); ++c) {
    sums_[c].add(other.sums_[c].high);
    sums_[c].add(other.sums_[c].low);
    sums_[c].count += other.sums_[c].count;
  }
  for (size_t c = 0; c < samples_.size(); ++c) {
    samples_[c].insert(samples_[c].end(), other.samples_[c].begin(), other.samples_[c].end());
  }
}

int64_t Aggregator::channels() const {
  return static_cast<int64_t>(std::max({extreme_.size(), sums_.size(), samples_.size()}));
}

float Aggregator::finish(size_t c) const {
  if (!extreme_.empty()) return std::isinf(extreme_[c]) ? NAN : extreme_[c];
  if (!sums_.empty())
    return sums_[c].count == 0 ? NAN : static_cast<float>((sums_[c].high + sums_[c].low) / sums_[c].count);
  auto sorted = samples_[c];
  if (sorted.empty()) return NAN;
  std::sort(sorted.begin(), sorted.end());
  switch (type_) {
    case AggregatorType::kMedian:
      return static_cast<float>(sorted_quantile(sorted, 0.5));
    case AggregatorType::kMeanNoOutliers:
    case AggregatorType::kMedianNoOutliers: {
      const auto kept = without_outliers(sorted, outlier_prob_);
      // With two samples both can lie outside; NNCF then answers 0, which would make a useless range.
      if (kept.empty()) return static_cast<float>(sorted_quantile(sorted, 0.5));
      return static_cast<float>(type_ == AggregatorType::kMeanNoOutliers ? mean(kept) : sorted_quantile(kept, 0.5));
    }
    default:
      throw Error(ErrorCode::kInternal, "this aggregator keeps no samples");
  }
}

at::Tensor Aggregator::result() const {
  const auto size = std::max({extreme_.size(), sums_.size(), samples_.size()});
  auto result = at::empty({static_cast<int64_t>(size)}, at::kFloat);
  for (size_t c = 0; c < size; ++c) result.data_ptr<float>()[c] = finish(c);
  return result;
}

/// [extrema], [channels, 3] sums, and the samples as one [channels, n] tensor padded with NaN.
std::vector<at::Tensor> Aggregator::state() const {
  auto extremes = at::empty({static_cast<int64_t>(extreme_.size())}, at::kFloat);
  std::copy(extreme_.begin(), extreme_.end(), extremes.data_ptr<float>());
  auto sums = at::empty({static_cast<int64_t>(sums_.size()), 3}, at::kDouble);
  for (size_t c = 0; c < sums_.size(); ++c) {
    double* row = sums.data_ptr<double>() + 3 * c;
    row[0] = sums_[c].high, row[1] = sums_[c].low, row[2] = sums_[c].count;
  }
  size_t longest = 0;
  for (const auto& list : samples_) longest = std::max(longest, list.size());
  auto samples = at::full({static_cast<int64_t>(samples_.size()), static_cast<int64_t>(longest)}, NAN, at::kFloat);
  for (size_t c = 0; c < samples_.size(); ++c) {
    std::copy(samples_[c].begin(), samples_[c].end(), samples.data_ptr<float>() + c * longest);
  }
  return {extremes, sums, samples};
}

void Aggregator::set_state(const std::vector<at::Tensor>& state) {
  const SavedState saved(state, kStateTensors);
  const at::Tensor extremes = saved.at(0, at::kFloat, 1), sums = saved.at(1, at::kDouble, 2),
                   samples = saved.at(2, at::kFloat, 2);
  const bool keeps_extremes = type_ == AggregatorType::kMin || type_ == AggregatorType::kMax;
  const bool keeps_sums = type_ == AggregatorType::kMean, keeps_samples = !keeps_extremes && !keeps_sums;
  require_saved((keeps_extremes || extremes.numel() == 0) && (keeps_sums || sums.size(0) == 0) &&
                    (keeps_samples || samples.size(0) == 0),
                "the values of an observer are of another kind");
  require_saved(sums.size(1) == 3 && at::isfinite(sums).all().item<bool>() && are_counts(sums.select(1, 2)),
                "the sums of an observer are wrong");
  require_saved(!at::isnan(extremes).any().item<bool>(), "the extrema of an observer hold NaN");
  extreme_.assign(extremes.data_ptr<float>(), extremes.data_ptr<float>() + extremes.numel());
  sums_.clear();
  for (int64_t c = 0; c < sums.size(0); ++c) {
    const double* row = sums.data_ptr<double>() + 3 * c;
    Sum sum;
    sum.high = row[0], sum.low = row[1], sum.count = row[2];
    sums_.push_back(sum);
  }
  samples_.assign(static_cast<size_t>(samples.size(0)), {});
  for (int64_t c = 0; c < samples.size(0); ++c) {
    const float* row = samples.data_ptr<float>() + c * samples.size(1);
    for (int64_t i = 0; i < samples.size(1); ++i) {
      if (!std::isnan(row[i])) samples_[static_cast<size_t>(c)].push_back(row[i]);
    }
  }
  sized_ = !extreme_.empty() || !sums_.empty() || !samples_.empty();
}

}  // namespace tsquant

#include "observers/histogram.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <cmath>
#include <mutex>

#include "observers/range_search.h"

namespace tsquant {

namespace {

constexpr int64_t kCellsPerBin = 16;
constexpr int64_t kTargetLevels = 256;
constexpr int64_t kGrain = 1 << 16;

/// torch.histc's rule: index = trunc((x - low) * bins / (high - low)); x == high belongs to the last bin.
template <typename T>
void count_block(const float* values, int64_t count, float low, float high, std::vector<int64_t>& counts) {
  const auto bins = static_cast<T>(counts.size());
  const auto last = static_cast<int64_t>(counts.size()) - 1;
  const T start = low, width = static_cast<T>(high) - static_cast<T>(low);
  for (int64_t i = 0; i < count; ++i) {
    const float x = values[i];
    if (!(x >= low && x <= high)) continue;
    const auto bin = static_cast<int64_t>((static_cast<T>(x) - start) * bins / width);
    ++counts[static_cast<size_t>(std::min(bin, last))];
  }
}

/// Expected squared error, up to a common factor, when source bins [first, last] are covered by 256 levels.
class QuantizationError {
 public:
  QuantizationError(const std::vector<double>& counts, double width) : counts_(counts.begin(), counts.end()) {
    // The unit does not change which range is best; the natural one keeps upstream's rounding where it cannot overflow.
    unit_ = width > 1e-8 && width < 1e8 ? width : 1.0;
  }

  double operator()(int64_t first, int64_t last) const {
    const double level = unit_ * static_cast<double>(last - first + 1) / kTargetLevels;
    const auto unit = static_cast<float>(unit_), step = static_cast<float>(level), half = static_cast<float>(level / 2);
    const float whole_level = cube_difference(-half, half);
    double total = 0;
    for (size_t i = 0; i < counts_.size(); ++i) {
      if (counts_[i] == 0) continue;
      const float begin = static_cast<float>(static_cast<int64_t>(i) - first) * unit, end = begin + unit;
      const float level_of_begin = nearest_level(begin / step), level_of_end = nearest_level(end / step);
      const float density = counts_[i] / unit;
      float error = density * cube_difference(begin - (level_of_begin + 0.5f) * step, half);
      error += (level_of_end - level_of_begin - 1) * (density * whole_level);
      error += density * cube_difference(-half, end - (level_of_end * step + half));
      total += error;
    }
    return total;
  }

 private:
  /// Integral of x^2 from `from` to `to`.
  static float cube_difference(float from, float to) { return (to * to * to - from * from * from) / 3; }
  static float nearest_level(float level) {
    return std::min(std::max(std::floor(level), 0.0f), static_cast<float>(kTargetLevels - 1));
  }

  std::vector<float> counts_;
  double unit_;
};

}  // namespace

std::vector<int64_t> count_bins(const float* values, int64_t count, float min, float max, int64_t bins) {
  std::vector<int64_t> counts(static_cast<size_t>(bins), 0);
  if (!(min < max)) {
    for (int64_t i = 0; i < count; ++i) counts[0] += std::isfinite(values[i]) ? 1 : 0;
    return counts;
  }
  // Half of the range is compared, so that the test itself cannot overflow.
  const bool wide = max / 2 - min / 2 > 1e30f;
  std::mutex mutex;
  at::parallel_for(0, count, kGrain, [&](int64_t begin, int64_t end) {
    std::vector<int64_t> local(counts.size(), 0);
    if (wide) {
      count_block<double>(values + begin, end - begin, min, max, local);
    } else {
      count_block<float>(values + begin, end - begin, min, max, local);
    }
    const std::lock_guard<std::mutex> lock(mutex);
    for (size_t i = 0; i < local.size(); ++i) counts[i] += local[i];
  });
  return counts;
}

void Histogram::add(const float* values, int64_t count, float min, float max) {
  if (count == 0) return;
  widen(min, max);
  const auto counts = count_bins(values, count, min_, max_, static_cast<int64_t>(fresh_.size()));
  for (size_t i = 0; i < fresh_.size(); ++i) fresh_[i] += counts[i];
}

void Histogram::add_counts(const std::vector<int64_t>& counts, float min, float max) {
  widen(min, max);
  for (size_t i = 0; i < fresh_.size(); ++i) fresh_[i] += counts[i];
}

std::vector<double> Histogram::counts() const {
  std::vector<double> result = spread_;
  for (size_t i = 0; i < result.size(); ++i) result[i] += static_cast<double>(fresh_[i]);
  return result;
}

void Histogram::widen(float min, float max) {
  if (empty()) {
    min_ = min;
    max_ = max;
    return;
  }
  const float low = std::min(min_, min), high = std::max(max_, max);
  if (low == min_ && high == max_) return;
  const auto old = counts();
  const auto bins = static_cast<int64_t>(old.size());
  const double new_width = (static_cast<double>(high) - low) / static_cast<double>(bins);
  const double cell = (static_cast<double>(max_) - min_) / static_cast<double>(bins * kCellsPerBin);
  const auto bin_of = [&](double x) {
    const auto bin = static_cast<int64_t>(std::floor((x - low) / new_width));
    return static_cast<size_t>(std::min(std::max<int64_t>(bin, 0), bins - 1));
  };
  std::vector<double> spread(old.size(), 0.0);
  for (int64_t i = 0; i < bins; ++i) {
    const double part = old[static_cast<size_t>(i)] / kCellsPerBin;
    if (part == 0) continue;
    for (int64_t k = 0; k < kCellsPerBin; ++k) {
      const double middle = min_ + (static_cast<double>(i * kCellsPerBin + k) + 0.5) * cell;
      spread[bin_of(min_ == max_ ? min_ : middle)] += part;
    }
  }
  spread_ = std::move(spread);
  std::fill(fresh_.begin(), fresh_.end(), 0);
  min_ = low;
  max_ = high;
}

void Histogram::merge(const Histogram& other) {
  if (other.empty()) return;
  if (empty()) {
    *this = other;
    return;
  }
  Histogram copy = other;
  widen(other.min_, other.max_);
  copy.widen(min_, max_);
  for (size_t i = 0; i < spread_.size(); ++i) {
    spread_[i] += copy.spread_[i];
    fresh_[i] += copy.fresh_[i];
  }
}

std::pair<float, float> Histogram::search() const {
  if (empty() || min_ == max_) return {min_, max_};
  const auto counts = this->counts();
  const auto bins = static_cast<int64_t>(counts.size());
  std::vector<double> cumulated(counts.size());
  double total = 0;
  for (size_t i = 0; i < counts.size(); ++i) cumulated[i] = total += counts[i];

  const double width = (static_cast<double>(max_) - min_) / static_cast<double>(bins);
  const QuantizationError error_of(counts, width);
  const auto [start, end] = search_bins(cumulated.data(), bins, total, error_of);
  return {static_cast<float>(min_ + width * static_cast<double>(start)),
          static_cast<float>(min_ + width * static_cast<double>(end + 1))};
}

}  // namespace tsquant

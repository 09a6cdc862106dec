#pragma once

#include <cstdint>
#include <utility>
#include <vector>

namespace tsquant {

/// Counts of values in equal bins over a range that grows with the data. Memory is fixed; when the range grows, the old
/// counts are spread over the new bins (torch.ao 2.3 and NNCF: each bin is cut into 16 cells, each cell goes to the new
/// bin that holds its middle). Spread counts are fractions and are rounded, so they are kept apart from the whole
/// numbers counted since the range last grew: between two growths the order of the data does not matter, neither to
/// threads nor to processes.
class Histogram {
 public:
  explicit Histogram(int64_t bins = 2048)
      : spread_(static_cast<size_t>(bins), 0.0), fresh_(static_cast<size_t>(bins), 0) {}
  /// @param spread, fresh  as spread() and fresh() gave them
  Histogram(std::vector<double> spread, std::vector<int64_t> fresh, float min, float max)
      : spread_(std::move(spread)), fresh_(std::move(fresh)), min_(min), max_(max) {}

  /// Adds finite values whose extrema are known; NaN and infinite values among them are skipped.
  void add(const float* values, int64_t count, float min, float max);
  /// Adds values that were counted with `count_bins` over a range that holds all ranges so far.
  void add_counts(const std::vector<int64_t>& counts, float min, float max);
  void merge(const Histogram& other);

  /// The range with the smallest expected squared error of an 8-bit quantizer: moves the end that loses fewer values,
  /// in steps of 1e-5 of all values, as long as the error falls (torch.ao's HistogramObserver, from caffe2's
  /// NormMinimization::NonlinearQuantizationParamsSearch).
  std::pair<float, float> search() const;

  bool empty() const { return min_ > max_; }
  float min() const { return min_; }
  float max() const { return max_; }
  std::vector<double> counts() const;
  const std::vector<double>& spread() const { return spread_; }
  const std::vector<int64_t>& fresh() const { return fresh_; }

 private:
  void widen(float min, float max);

  std::vector<double> spread_;
  std::vector<int64_t> fresh_;
  float min_ = 1, max_ = 0;  ///< empty while min_ > max_
};

/// Number of finite values in each of `bins` equal bins over [min, max] (torch.histc's rule); values outside are
/// skipped. With min == max all of them are in bin 0.
std::vector<int64_t> count_bins(const float* values, int64_t count, float min, float max, int64_t bins);

}  // namespace tsquant

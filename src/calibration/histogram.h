#pragma once

#include <cstdint>
#include <utility>
#include <vector>

namespace tsquant {

/// Counts of values in equal bins over a range that grows with the data. Memory is fixed; when the range grows, the old
/// counts are spread over the new bins (torch.ao 2.3 and NNCF: each bin is cut into 16 cells, each cell goes to the new
/// bin that holds its middle). Counts are float64, so whole numbers stay exact and the result does not depend on
/// threads.
class Histogram {
 public:
  explicit Histogram(int64_t bins = 2048) : counts_(static_cast<size_t>(bins), 0.0) {}
  Histogram(std::vector<double> counts, float min, float max) : counts_(std::move(counts)), min_(min), max_(max) {}

  /// Adds finite values whose extrema are known; NaN and infinite values among them are skipped.
  void add(const float* values, int64_t count, float min, float max);
  void merge(const Histogram& other);

  /// The range with the smallest expected squared error of an 8-bit quantizer: moves the end that loses fewer values,
  /// in steps of 1e-5 of all values, as long as the error falls (torch.ao's HistogramObserver, from caffe2's
  /// NormMinimization::NonlinearQuantizationParamsSearch).
  std::pair<float, float> search() const;

  bool empty() const { return min_ > max_; }
  float min() const { return min_; }
  float max() const { return max_; }
  const std::vector<double>& counts() const { return counts_; }

 private:
  void widen(float min, float max);
  void count(const float* values, int64_t count);

  std::vector<double> counts_;
  float min_ = 1, max_ = 0;  ///< empty while min_ > max_
};

}  // namespace tsquant

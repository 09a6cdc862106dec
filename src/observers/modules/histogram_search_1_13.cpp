#include "observers/modules/histogram_search_1_13.h"

#include <ATen/ATen.h>

#include "observers/range_search.h"

namespace tsquant {

namespace {

constexpr int64_t kLevels = 256;

/// HistogramObserver._compute_quantization_error. Every operation is one of torch.ao's on float32 tensors, because the
/// search compares sums that differ in their last digits.
class ErrorOfRange {
 public:
  ErrorOfRange(const at::Tensor& counts, float min, float max)
      : width_((static_cast<double>(max) - min) / static_cast<double>(counts.numel())),
        index_(at::arange(counts.numel(), at::kLong)),
        density_(counts / width_) {}

  double operator()(int64_t first, int64_t last) const {
    const double level = width_ * static_cast<double>(last - first + 1) / kLevels;
    if (level == 0) return 0;
    const at::Tensor begin = (index_ - first).to(at::kFloat) * width_, end = begin + width_;
    const at::Tensor level_of_begin = level_of(begin, level), level_of_end = level_of(end, level);
    const at::Tensor half = at::full({}, level / 2, at::kFloat);
    at::Tensor error = norm(begin - (level_of_begin + 0.5) * level, half);
    error = error + (level_of_end - level_of_begin - 1) * norm(-half, half);
    error = error + norm(-half, end - (level_of_end * level + level / 2));
    return error.sum().item<double>();
  }

 private:
  static at::Tensor level_of(const at::Tensor& x, double level) {
    return at::clamp(at::div(x, level, "floor"), 0, kLevels - 1);
  }
  /// _get_norm: density times the integral of x^2.
  at::Tensor norm(const at::Tensor& from, const at::Tensor& to) const {
    return density_ * ((to * to * to - from * from * from) / 3);
  }

  double width_;
  at::Tensor index_, density_;
};

}  // namespace

std::pair<float, float> search_histogram_1_13(const at::Tensor& counts, float min, float max) {
  const at::Tensor histogram = counts.to(at::kFloat).contiguous();
  const at::Tensor cumulated = at::cumsum(histogram, 0);
  const float* below = cumulated.data_ptr<float>();
  const auto total = static_cast<double>(histogram.sum().item<float>());
  const ErrorOfRange error_of(histogram, min, max);
  const int64_t bins = histogram.numel();
  const auto [start, end] = search_bins(below, bins, total, error_of);
  const float width = (max - min) / static_cast<float>(bins);
  return {min + width * static_cast<float>(start), min + width * static_cast<float>(end + 1)};
}

}  // namespace tsquant

#pragma once

#include <cmath>
#include <cstdint>
#include <utility>

namespace tsquant {

/// First and last bin of the range with the smallest error: moves the end that loses fewer values, in steps of 1e-5 of
/// all values, as long as the error falls (torch.ao's HistogramObserver._non_linear_param_search, from caffe2's
/// NormMinimization::NonlinearQuantizationParamsSearch).
/// @param cumulated  counts up to and with each bin; shares of `total` are compared in their type
/// @param error_of   (first bin, last bin) -> error
template <typename Count, typename ErrorOf>
std::pair<int64_t, int64_t> search_bins(const Count* cumulated, int64_t bins, double total, const ErrorOf& error_of) {
  constexpr double kStep = 1e-5;
  double alpha = 0, beta = 1, best = INFINITY;
  int64_t start = 0, end = bins - 1;
  while (alpha < beta) {
    const double next_alpha = alpha + kStep, next_beta = beta - kStep;
    const auto low = static_cast<Count>(next_alpha * total), high = static_cast<Count>(next_beta * total);
    int64_t left = start, right = end;
    while (left < end && cumulated[left] < low) ++left;
    while (right > start && cumulated[right] > high) --right;
    int64_t next_start = start, next_end = end;
    if (left - start > end - right) {
      next_start = left;
      alpha = next_alpha;
    } else {
      next_end = right;
      beta = next_beta;
    }
    if (next_start == start && next_end == end) continue;
    const double error = error_of(next_start, next_end);
    if (error > best) break;
    best = error;
    start = next_start;
    end = next_end;
  }
  return {start, end};
}

}  // namespace tsquant

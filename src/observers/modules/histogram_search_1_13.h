#pragma once

#include <ATen/core/Tensor.h>

#include <utility>

namespace tsquant {

/// The range with the smallest expected squared error of 256 levels, as torch.ao 1.13 computes it from its float32
/// histogram: HistogramObserver._non_linear_param_search. The same search in float64 (observers/histogram.h) may stop a
/// step earlier or later.
/// @param counts float32 [bins]
std::pair<float, float> search_histogram_1_13(const at::Tensor& counts, float min, float max);

}  // namespace tsquant

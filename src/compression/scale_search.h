#pragma once

#include "compression/compressed_weight.h"

namespace tsquant {

struct ScaleSearchOptions {
  int steps = 24;         ///< shrink factors tried, 1 among them; at least 1
  double smallest = 0.5;  ///< the last factor, above 0 and at most 1
};

/// Scales that minimise sum_j h_j (w_j - s (level_j - z))^2 in each group, where round_to_nearest takes the range as it
/// is. Its result is the start: no group's error grows. Every shrunk scale, with the zero point and its neighbours,
/// gives codes; for these the best scale has a closed form, which gives codes once more. Source: llama.cpp's
/// quantization with an importance matrix (make_qkx3_quants).
///
/// The codes are the nearest ones for the scales that are stored: power-of-two scales and those of E4M3 are looked for
/// among the numbers that these formats have.
/// @param spec as for round_to_nearest
/// @param importance h: not negative, broadcasts over the weight. For y = x W^T the mean of x^2 over all rows,
///        [in_features], makes the error that of the layer's output as far as inputs are not correlated. Undefined: 1
/// @throws Error kInvalidArgument also for options out of their limits and for an importance that is negative, NaN,
///         infinite or of another shape
CompressedWeight search_scales(const at::Tensor& weight, const QuantizationSpec& spec,
                               const at::Tensor& importance = {}, const ScaleSearchOptions& options = {});

/// The objective, summed over the weight.
double weighted_error(const at::Tensor& weight, const CompressedWeight& compressed, const at::Tensor& importance = {});

}  // namespace tsquant

#pragma once

#include <vector>

#include "compression/compressed_weight.h"
#include "compression/input_moments.h"
#include "compression/scale_search.h"

namespace tsquant {

struct ColumnScaleOptions {
  int steps = 10;                  ///< exponents tried beside 0: i * largest / steps; at least 1
  double largest = 1;              ///< the last exponent; above 0
  ScaleSearchOptions search = {};  ///< of the scales of groups
};

/// A factor of each input channel: x is divided by it, and the columns of the weight are multiplied.
struct ColumnScale {
  at::Tensor scale;          ///< c, float32 [inputs], positive; ones when nothing is better
  double exponent = 0;       ///< a of c = (E[x^2])^(a/2), scaled to a geometric mean of 1
  double error_without = 0;  ///< relative output error after search_scales, with c = 1
  double error = 0;          ///< with c
};

/// The best column scale of its family: AWQ's search (arXiv:2306.00978), but with E[x^2] for the mean magnitude, scales
/// of groups by search_scales for those of the range, and judged by tr((W - Q / c) H (W - Q / c)^T) with the whole H
/// for the error on some samples. 0 is among the exponents, so it is never worse than none.
/// @param weights of all layers that are given these inputs and so share the scale (query, key and value, for example),
///        [outputs, inputs]
/// @param spec as for search_scales, groups along axis 1 or one scale per output
/// @throws Error kInvalidArgument without weights, as LayerMatrix and search_scales, for moments of another number of
///         channels, and options out of their limits; kCalibration as InputMoments
ColumnScale find_column_scale(const std::vector<at::Tensor>& weights, const QuantizationSpec& spec,
                              const InputMoments& moments, const ColumnScaleOptions& options = {});

}  // namespace tsquant

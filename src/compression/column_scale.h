#pragma once

#include <vector>

#include "compression/compressed_weight.h"

namespace tsquant {

struct ColumnScaleOptions {
  int steps = 4;       ///< members of each half of a family; at least 1
  int64_t rows = 256;  ///< of each weight that are judged, spread evenly; at least 1
  /// A scale that leaves more of the error than this share is none: the rounding that follows makes up for small
  /// differences by itself. Above 0 and at most 1.
  double worth = 0.8;
};

/// A factor of each input channel: x is divided by it, and the columns of the weight are multiplied.
struct ColumnScale {
  at::Tensor scale;          ///< c, float32 [inputs], positive, of geometric mean 1; ones when none is worth it
  double error_without = 0;  ///< relative error with c = 1
  double error = 0;          ///< with c
};

/// The best of two families of column scales, with m = E[x^2]^(1/2) and n the same of the weights' columns: AWQ's
/// c = m^a (arXiv:2306.00978), a from 0 to 1, and c = (m / n)^(1/2) (m n)^t, t from -1/2 to 1/2, which gives layers
/// that differ only in how a factor of a channel is shared by inputs and weights the same result. Judged by
/// sum_j m_j^2 (w_j - q_j / c_j)^2 relative to sum_j m_j^2 w_j^2, with scales of groups by search_scales.
/// @param weights of all layers that are given these inputs and so share the scale (query, key and value, for example),
///        [outputs, inputs]
/// @param spec as for search_scales, groups along axis 1 or one scale per output
/// @param mean_square E[x^2], [inputs]
/// @throws Error kInvalidArgument without weights, as LayerMatrix and search_scales, for a mean square of another size,
///         and options out of their limits
ColumnScale find_column_scale(const std::vector<at::Tensor>& weights, const QuantizationSpec& spec,
                              const at::Tensor& mean_square, const ColumnScaleOptions& options = {});

}  // namespace tsquant

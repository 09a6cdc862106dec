#pragma once

#include <ATen/core/Tensor.h>

#include "numerics/qparams.h"

namespace tsquant {

/// Groups of neighbours along one axis of a tensor: [a, c, b] seen as [a, c / size, size, b].
struct Groups {
  int64_t axis = 0, size = 0, count = 0;

  /// @param axis negative counts from the last
  /// @throws Error kInvalidArgument when x has no such axis, or its size is no multiple of the group size
  Groups(const at::Tensor& x, int64_t group_size, int64_t group_axis);

  at::Tensor split(const at::Tensor& x) const;
  at::Tensor join(const at::Tensor& groups) const;
  /// Parameters [a, c / size, b] in the shape that broadcasts over `split`.
  at::Tensor broadcast(const at::Tensor& parameters) const { return parameters.unsqueeze(axis + 1); }
};

/// The smallest and largest value of each of `rows` equal parts of a contiguous float tensor, [rows]; NaN for both
/// where a value is NaN.
Range row_range(const at::Tensor& x, int64_t rows);

/// The smallest and largest value of each group, [a, c / size, b].
Range group_range(const at::Tensor& x, int64_t group_size, int64_t group_axis);

}  // namespace tsquant

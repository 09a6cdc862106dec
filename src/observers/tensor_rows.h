#pragma once

#include <ATen/core/Tensor.h>
#include <c10/util/Optional.h>

namespace tsquant {

/// A tensor cut into rows; one statistic is computed per row.
struct Rows {
  at::Tensor values;     ///< float32 [items * channels, elements], contiguous
  int64_t items = 1;     ///< independent samples in this batch
  int64_t channels = 1;  ///< rows per item
};

/// @param axis     channel axis; none: the whole tensor (or item) is one row. May be negative.
/// @param per_item every index of dimension 0 is a sample of its own
/// The rows share memory with `x` where its layout permits.
/// @throws Error kCalibration when the axis does not exist
Rows to_rows(const at::Tensor& x, c10::optional<int64_t> axis, bool per_item);

/// Smallest and largest value of each row: float32 [rows]. NaN spreads to both.
struct RowExtrema {
  at::Tensor min, max;
  /// True when no row holds NaN or an infinite value.
  bool finite() const;
};
RowExtrema row_extrema(const at::Tensor& rows);

/// Numbers of unusable values of a tensor.
struct NonFinite {
  int64_t nan = 0, infinite = 0;
};
NonFinite count_non_finite(const at::Tensor& values);

}  // namespace tsquant

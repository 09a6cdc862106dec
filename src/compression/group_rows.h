#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

#include "numerics/qparams.h"

namespace tsquant {

/// A weight as a matrix with one row for each scale, whatever axis its groups or channels lie on.
class GroupRows {
 public:
  /// @param q parameters of the weight; their flattened scales number the rows
  GroupRows(const at::Tensor& weight, const QParams& q);

  /// [scales, values per scale], contiguous
  at::Tensor rows_of(const at::Tensor& x) const;
  /// The tensor that rows_of made rows of.
  at::Tensor from_rows(const at::Tensor& rows) const;

 private:
  std::vector<int64_t> shape_;  ///< of the weight, or of its groups
  std::vector<int64_t> order_;  ///< axes of the scales, then those that share a scale
  std::vector<int64_t> weight_shape_;
  int64_t rows_ = 0;
};

}  // namespace tsquant

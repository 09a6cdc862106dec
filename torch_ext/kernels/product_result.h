#pragma once

#include <ATen/core/Tensor.h>
#include <c10/util/Optional.h>

#include "kernels/softmax_rows.h"

namespace tsquant::kernels {

/// Scale and zero point of a result that is quantized.
struct ResultCodes {
  double scale;
  int64_t zero_point;
};

/// Where sums of products go: a tensor of floats or codes with rows that lie together.
class ProductResult {
 public:
  /// @param like operand whose order of dimensions in memory the result gets, if it has the same batch
  /// @param type of the codes
  ProductResult(const at::Tensor& like, at::IntArrayRef sizes, at::ScalarType type, c10::optional<ResultCodes> codes);

  const at::Tensor& tensor() const { return tensor_; }
  /// Everything becomes 0.
  void clear();
  /// What the factors of write() have in them beside the sums' own scale.
  double inverse_scale() const { return inverse_; }
  /// Rows from `first` on of a matrix of the batch; `x` has as many columns as the result.
  template <typename Sum>
  void write(int64_t matrix, int64_t first, const SumRows<Sum>& x) const;

 private:
  at::Tensor tensor_;
  c10::optional<ResultCodes> codes_;
  RoundedRange range_;
  double inverse_ = 1;
};

}  // namespace tsquant::kernels

#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

namespace tsquant {

/// H = 2/n sum of X^T X over the inputs X of a linear layer, where n counts the items of batches: what GPTQ calls the
/// Hessian of the layer's squared error. Products of some hundred rows are computed in float32 and added in float64.
/// Source: nncf gptq.py.
class Hessian {
 public:
  /// Adds inputs [..., in_features]: of 3 and more dimensions all but the last two number the items; others are one.
  /// @throws Error kInvalidArgument for other types than floating point and another number of channels than before;
  ///         kCalibration for NaN and infinite values
  void add(const at::Tensor& inputs);

  /// float64 [in_features, in_features], symmetric; undefined when nothing was added
  at::Tensor value() const&;
  at::Tensor value() &&;  ///< the same in the memory of the sum
  int64_t items() const { return items_; }

 private:
  void add_rows(const at::Tensor& rows);

  at::Tensor sum_;  ///< of X^T X; the upper blocks alone are kept up to date
  int64_t items_ = 0;
};

/// The Hessian of the first `subset_size` of these inputs.
/// @throws Error kInvalidArgument when subset_size is below 1; kCalibration without inputs
at::Tensor hessian_of(const std::vector<at::Tensor>& inputs, int64_t subset_size);

}  // namespace tsquant

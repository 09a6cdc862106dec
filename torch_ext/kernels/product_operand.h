// Operands of products that are computed while the model runs: batches of matrices of any strides, as codes or floats.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

#include "kernels/panel_products.h"

namespace tsquant::kernels {

class ProductOperand {
 public:
  /// @param what "query of attention" in messages
  /// @throws c10::Error unless it is a quint8 or qint8 tensor with one scale or a float tensor, of the CPU, with two
  ///   dimensions or more
  ProductOperand(const at::Tensor& x, std::string what);

  /// Repeats matrices so that there is one for every place of the batch, as matmul does.
  void expand(at::IntArrayRef batch);

  const at::Tensor& tensor() const { return x_; }
  bool is_codes() const { return x_.is_quantized(); }
  at::IntArrayRef batch() const { return x_.sizes().slice(0, static_cast<size_t>(x_.dim()) - 2); }
  int64_t rows() const { return x_.size(-2); }
  int64_t columns() const { return x_.size(-1); }
  /// Of codes; 1 for floats, whose values stand for themselves.
  double scale() const { return is_codes() ? x_.q_scale() : 1; }

  /// Codes that stand for others before they are multiplied: 256 values, less their zero point, counted from the lowest
  /// code.
  void set_table(std::vector<int16_t> table) { table_ = std::move(table); }

  /// Rows [first, first + count) of a matrix of the batch as the left operand of a product, `padded` values each.
  /// Value is int16_t (codes less the zero point) or float (the same as floats, or floats).
  template <typename Value>
  void pack_left(int64_t matrix, int64_t first, int64_t count, int64_t padded, Value* out) const;

  /// A matrix of the batch as the panels of the right operand.
  template <typename Value>
  void pack_right(int64_t matrix, Value* out) const;

 private:
  /// Distance of a matrix of the batch from the first one, in values.
  int64_t offset_of(int64_t matrix) const;
  /// Values [0, n) from `offset` on, `stride` apart.
  template <typename Value>
  void read(int64_t offset, int64_t stride, int64_t n, Value* out) const;
  /// `width` columns from `start` on as one panel.
  template <typename Value>
  void pack_columns(int64_t start, int64_t width, Value* out) const;
  /// All panels.
  template <typename Value>
  void pack_rows(int64_t start, Value* out) const;

  at::Tensor x_;
  std::string what_;
  std::vector<int16_t> table_;
  uint8_t flip_ = 0;        // makes codes of qint8 count from 0
  int32_t zero_point_ = 0;  // of codes that do
};

/// Steps and values of the panels of a right operand with so many rows and columns.
/// @throws c10::Error for more than memory can hold
template <typename Value>
int64_t panel_steps(int64_t rows) {
  return (rows + kPanelStep<Value> - 1) / kPanelStep<Value>;
}
inline int64_t panel_count(int64_t columns) { return (columns + kPanelColumns - 1) / kPanelColumns; }
int64_t panel_values(int64_t rows, int64_t columns);

/// Sizes of the batch that both have, as matmul infers them.
std::vector<int64_t> common_batch(const ProductOperand& a, const ProductOperand& b);

/// A result of a product: values in the order of dimensions that `like`, an operand with the same batch and rows, has
/// in memory, the last dimension innermost.
std::vector<int64_t> product_strides(const at::Tensor& like, at::IntArrayRef sizes);

/// Distance of matrix `index` of the batch from the first one; a size of `sizes` that is smaller than the batch's
/// repeats.
int64_t matrix_offset(int64_t index, at::IntArrayRef batch, at::IntArrayRef sizes, at::IntArrayRef strides);

}  // namespace tsquant::kernels

// Quantized tensors as strided bytes: what the operators on codes share.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <vector>

namespace tsquant::kernels {

/// Codes that one thread should at least get: about 20 microseconds of work.
constexpr int64_t kGrain = 1 << 16;

/// Throws unless `x` is a quint8 or qint8 tensor of the CPU with one scale.
void check_codes_of_either_type(const at::Tensor& x, const char* what);

/// Throws unless scale and zero point can be those of a result of type `dtype` (quint8 or qint8).
void check_target(double scale, int64_t zero_point, at::ScalarType dtype);

inline bool is_signed(at::ScalarType dtype) { return dtype == at::kQInt8; }
inline int32_t lowest_code(at::ScalarType dtype) { return is_signed(dtype) ? -128 : 0; }
inline int32_t highest_code(at::ScalarType dtype) { return is_signed(dtype) ? 127 : 255; }

inline uint8_t* codes_of(const at::Tensor& x) { return static_cast<uint8_t*>(x.data_ptr()); }

/// The bytes of `x` as an unquantized tensor with the same strides, which must not outlive `x`.
at::Tensor bytes_of(const at::Tensor& x);

/// A new tensor of codes; the strides must fill its memory without gaps.
at::Tensor empty_codes(at::IntArrayRef sizes, at::IntArrayRef strides, at::ScalarType dtype, double scale,
                       int64_t zero_point);

/// Dimensions of a tensor from the outermost to the innermost in memory.
std::vector<int64_t> memory_order(const at::Tensor& x);
/// Strides of a dense tensor of `sizes` whose dimensions lie in memory in the given order.
std::vector<int64_t> dense_strides(at::IntArrayRef sizes, const std::vector<int64_t>& order);
std::vector<int64_t> plain_strides(at::IntArrayRef sizes);
/// Strides for a result with these sizes and the rank and layout of `x`: the same order of dimensions in memory when
/// `x` is dense, else channels-last when `x` looks like it, else contiguous.
std::vector<int64_t> strides_like(const at::Tensor& x, at::IntArrayRef sizes);
/// `x` itself when its memory has no gaps or overlaps, else a copy laid out as strides_like(x, x.sizes()).
at::Tensor dense_bytes(const at::Tensor& bytes);

/// One step of for_each_row: where a block of rows starts in each operand, in bytes.
struct RowBlock {
  std::vector<int64_t> offset;  ///< per operand
  std::vector<int64_t> row;     ///< per operand: distance between rows
  int64_t rows = 0;
};

/// Walks operands of the same sizes (the first is the dense result) in the order of the result's memory, with as few
/// and long rows as their strides allow.
struct RowLoop {
  /// @param operands byte tensors, expanded to the same sizes
  explicit RowLoop(const std::vector<at::Tensor>& operands);

  int64_t n = 1;               ///< codes of a row
  std::vector<int64_t> inner;  ///< per operand: distance between neighbours in a row
  /// Calls body(block, n) from several threads; n is at most the length of a row.
  void run(const std::function<void(const RowBlock&, int64_t)>& body) const;

 private:
  std::vector<int64_t> sizes_;                 // outermost first, without the row itself
  std::vector<std::vector<int64_t>> strides_;  // per operand, as sizes_
};

}  // namespace tsquant::kernels

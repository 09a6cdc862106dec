#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>

#include "kernels/compressed_ops.h"

namespace tsquant::kernels {
namespace {

constexpr int64_t kValuesPerTask = 1 << 16;

void check_value_type(const char* op, at::ScalarType dtype) {
  // A call may carry any number as dtype.
  TORCH_CHECK(dtype == at::kFloat || dtype == at::kHalf || dtype == at::kBFloat16, op,
              ": dtype must be float32, float16 or bfloat16, but is number ", static_cast<int>(dtype));
}

/// Rows row_of(i) of the matrix, for i < count, one after the other.
template <typename RowOf>
at::Tensor read_rows(const CompressedMatrix& matrix, int64_t count, at::ScalarType type, const RowOf& row_of) {
  at::Tensor values = at::empty({count, matrix.size()}, at::TensorOptions(at::kFloat));
  auto* to = values.data_ptr<float>();
  const int64_t grain = std::max<int64_t>(1, kValuesPerTask / matrix.size());
  at::parallel_for(0, count, grain, [&](int64_t begin, int64_t end) {
    RowReader reader(matrix);
    for (int64_t i = begin; i < end; ++i) {
      reader.start(row_of(i));
      reader.read(0, matrix.size(), to + i * matrix.size());
    }
  });
  return values.to(type);
}

/// Elements of a row when `rows` rows hold all elements of a tensor of this size.
int64_t row_elements(const char* op, const at::Tensor& weight, at::IntArrayRef size) {
  check_plain(op, weight, "weight");
  int64_t elements = 1;
  bool fits = weight.dim() == 2 && weight.size(0) > 0;
  for (const int64_t length : size) fits = fits && length > 0 && !__builtin_mul_overflow(elements, length, &elements);
  TORCH_CHECK(fits && elements % weight.size(0) == 0, op,
              ": size must be positive numbers whose product is a multiple ", "of the rows of weight, but is ", size,
              " for a weight of shape ", weight.sizes());
  return elements / weight.size(0);
}

}  // namespace

at::Tensor embedding_compressed(const at::Tensor& indices, const at::Tensor& weight, const at::Tensor& scale,
                                const OptionalTensor& zero_point, c10::string_view format, int64_t embedding_dim,
                                int64_t group_size, at::ScalarType dtype, const OptionalTensor& codebook,
                                const OptionalTensor& tensor_scale) {
  const char* op = "tsquant::embedding_compressed";
  check_value_type(op, dtype);
  check_plain(op, indices, "indices");
  TORCH_CHECK(indices.scalar_type() == at::kLong || indices.scalar_type() == at::kInt, op,
              ": indices must be int64 or int32, but are ", indices.scalar_type());
  const CompressedMatrix matrix({op, weight, scale, zero_point, tensor_scale, codebook, format, group_size},
                                embedding_dim);
  const at::Tensor flat = indices.to(at::kLong).contiguous();
  const int64_t* index = flat.data_ptr<int64_t>();
  for (int64_t i = 0; i < flat.numel(); ++i) {
    TORCH_CHECK_INDEX(index[i] >= 0 && index[i] < matrix.rows(), op, ": index ", index[i], " is outside of the ",
                      matrix.rows(), " rows");
  }
  auto shape = indices.sizes().vec();
  shape.push_back(embedding_dim);
  return read_rows(matrix, flat.numel(), dtype, [&](int64_t i) { return index[i]; }).reshape(shape);
}

at::Tensor decompress(const at::Tensor& weight, const at::Tensor& scale, const OptionalTensor& zero_point,
                      c10::string_view format, at::IntArrayRef size, int64_t group_size, at::ScalarType dtype,
                      const OptionalTensor& codebook, const OptionalTensor& tensor_scale) {
  const char* op = "tsquant::decompress";
  check_value_type(op, dtype);
  const CompressedMatrix matrix({op, weight, scale, zero_point, tensor_scale, codebook, format, group_size},
                                row_elements(op, weight, size));
  return read_rows(matrix, matrix.rows(), dtype, [](int64_t i) { return i; }).reshape(size);
}

at::Tensor decompress_like(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& scale,
                           const OptionalTensor& zero_point, c10::string_view format, at::IntArrayRef size,
                           int64_t group_size, const OptionalTensor& codebook, const OptionalTensor& tensor_scale) {
  TORCH_CHECK(x.defined(), "tsquant::decompress: x must be a tensor, whose dtype the result gets");
  return decompress(weight, scale, zero_point, format, size, group_size, x.scalar_type(), codebook, tensor_scale);
}

}  // namespace tsquant::kernels

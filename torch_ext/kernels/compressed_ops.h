#pragma once

#include "kernels/compressed_matrix.h"

namespace tsquant::kernels {

/// x * values.T + bias, in the dtype of x.
at::Tensor linear_compressed(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& scale,
                             const OptionalTensor& zero_point, const OptionalTensor& bias, c10::string_view format,
                             int64_t in_features, int64_t group_size, const OptionalTensor& codebook,
                             const OptionalTensor& tensor_scale);

/// The same with int8 in the place of x, for integer formats: round(x / s) with s = max |x| / 127 for every group of
/// every row, exact sums of the products of codes within a group, and sum * (scale * s) added in the order of groups.
/// All instruction sets and all numbers of rows give the same bits.
at::Tensor linear_compressed_dynamic(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& scale,
                                     const OptionalTensor& zero_point, const OptionalTensor& bias,
                                     c10::string_view format, int64_t in_features, int64_t group_size,
                                     const OptionalTensor& codebook, const OptionalTensor& tensor_scale);

/// The rows of the indices, in this dtype.
at::Tensor embedding_compressed(const at::Tensor& indices, const at::Tensor& weight, const at::Tensor& scale,
                                const OptionalTensor& zero_point, c10::string_view format, int64_t embedding_dim,
                                int64_t group_size, at::ScalarType dtype, const OptionalTensor& codebook,
                                const OptionalTensor& tensor_scale);

/// All values in the shape `size`, whose elements are those of the rows one after the other.
at::Tensor decompress(const at::Tensor& weight, const at::Tensor& scale, const OptionalTensor& zero_point,
                      c10::string_view format, at::IntArrayRef size, int64_t group_size, at::ScalarType dtype,
                      const OptionalTensor& codebook, const OptionalTensor& tensor_scale);

/// The same in the dtype of x.
at::Tensor decompress_like(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& scale,
                           const OptionalTensor& zero_point, c10::string_view format, at::IntArrayRef size,
                           int64_t group_size, const OptionalTensor& codebook, const OptionalTensor& tensor_scale);

}  // namespace tsquant::kernels

// Products of two tensors that the model computes: attention as one operator, and matmul of codes.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/util/Optional.h>

namespace tsquant::kernels {

/// What attention does with its operands. Quantizers in between have codes of quint8.
struct AttentionSpec {
  double factor = 1;     ///< of the query and so of the scores
  bool divides = false;  ///< by the factor
  /// Quantizes the query, with its factor, before the first product.
  c10::optional<double> query_scale;
  c10::optional<int64_t> query_zero_point;
  /// Quantizes the softmax before the second product.
  c10::optional<double> weight_scale;
  c10::optional<int64_t> weight_zero_point;
};

/// softmax(query * factor x key + masks) x value: query [..., queries, size], key [..., size, keys], value
/// [..., keys, columns], of codes (quint8 or qint8) or floats, with any strides. Batches broadcast as in matmul. A mask
/// of floats is added to the scores and broadcasts to their shape; where it has as many dimensions, its first one may
/// also be a divisor of theirs, and then repeats (windows of a batch of images).
///
/// Products of codes are exact integers, products of floats and the softmax have a fixed order of operations: all
/// instruction sets and numbers of threads give the same bits. Scores stay in cache: they are computed for 64 queries
/// at most. Results lie in memory as the query does, with the columns innermost.
at::Tensor attention_float(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value,
                           at::TensorList masks, const AttentionSpec& spec);
/// The same, quantized; codes have the type of the value's, quint8 for floats.
at::Tensor attention(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value, at::TensorList masks,
                     const AttentionSpec& spec, double scale, int64_t zero_point);

/// a x b for [..., rows, size] and [..., size, columns], both codes: exact sums. Batches broadcast as in matmul.
at::Tensor matmul_float(const at::Tensor& a, const at::Tensor& b);
/// The same, quantized; codes have the type of a's.
at::Tensor matmul(const at::Tensor& a, const at::Tensor& b, double scale, int64_t zero_point);

}  // namespace tsquant::kernels

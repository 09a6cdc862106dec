#include <torch/library.h>

#include "kernels/compressed_ops.h"

// The operators that run compressed weights. Schemas are the contract with model files: change them only by adding
// overloads.
namespace tsquant::kernels {

TORCH_LIBRARY_FRAGMENT(tsquant, m) {
  m.def(
      "linear_compressed(Tensor x, Tensor weight, Tensor scale, Tensor? zero_point, Tensor? bias, str format, "
      "int in_features, int group_size, Tensor? codebook=None, Tensor? tensor_scale=None) -> Tensor",
      linear_compressed);
  m.def(
      "linear_compressed_dynamic(Tensor x, Tensor weight, Tensor scale, Tensor? zero_point, Tensor? bias, str format, "
      "int in_features, int group_size, Tensor? codebook=None, Tensor? tensor_scale=None) -> Tensor",
      linear_compressed_dynamic);
  m.def(
      "embedding_compressed(Tensor indices, Tensor weight, Tensor scale, Tensor? zero_point, str format, "
      "int embedding_dim, int group_size, ScalarType dtype, Tensor? codebook=None, Tensor? tensor_scale=None) -> "
      "Tensor",
      embedding_compressed);
  m.def(
      "decompress(Tensor weight, Tensor scale, Tensor? zero_point, str format, int[] size, int group_size, "
      "ScalarType dtype, Tensor? codebook=None, Tensor? tensor_scale=None) -> Tensor",
      decompress);
  m.def(
      "decompress.like(Tensor x, Tensor weight, Tensor scale, Tensor? zero_point, str format, int[] size, "
      "int group_size, Tensor? codebook=None, Tensor? tensor_scale=None) -> Tensor",
      decompress_like);
}

}  // namespace tsquant::kernels

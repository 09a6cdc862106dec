#include <torch/library.h>

#include "kernels/attention.h"

// Products of two activations. Schemas are the contract with model files: change them only by adding overloads.
namespace tsquant::kernels {
namespace {

using OptionalScale = c10::optional<double>;
using OptionalCode = c10::optional<int64_t>;

at::Tensor attention_codes(at::Tensor query, at::Tensor key, at::Tensor value, std::vector<at::Tensor> masks,
                           double factor, bool divides, OptionalScale query_scale, OptionalCode query_zero_point,
                           OptionalScale weight_scale, OptionalCode weight_zero_point, double scale,
                           int64_t zero_point) {
  const AttentionSpec spec = {factor, divides, query_scale, query_zero_point, weight_scale, weight_zero_point};
  return attention(query, key, value, masks, spec, scale, zero_point);
}

at::Tensor attention_floats(at::Tensor query, at::Tensor key, at::Tensor value, std::vector<at::Tensor> masks,
                            double factor, bool divides, OptionalScale query_scale, OptionalCode query_zero_point,
                            OptionalScale weight_scale, OptionalCode weight_zero_point) {
  const AttentionSpec spec = {factor, divides, query_scale, query_zero_point, weight_scale, weight_zero_point};
  return attention_float(query, key, value, masks, spec);
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(tsquant, m) {
  m.def(
      "attention(Tensor query, Tensor key, Tensor value, Tensor[] masks, float factor, bool divides, "
      "float? query_scale, int? query_zero_point, float? weight_scale, int? weight_zero_point, float scale, "
      "int zero_point) -> Tensor",
      attention_codes);
  m.def(
      "attention_float(Tensor query, Tensor key, Tensor value, Tensor[] masks, float factor, bool divides, "
      "float? query_scale, int? query_zero_point, float? weight_scale, int? weight_zero_point) -> Tensor",
      attention_floats);
  m.def("matmul(Tensor a, Tensor b, float scale, int zero_point) -> Tensor", matmul);
  m.def("matmul_float(Tensor a, Tensor b) -> Tensor", matmul_float);
}

}  // namespace tsquant::kernels

#include <ATen/ATen.h>

#include "kernels/compressed_ops.h"
#include "kernels/compressed_products.h"

namespace tsquant::kernels {

at::Tensor linear_compressed(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& scale,
                             const OptionalTensor& zero_point, const OptionalTensor& bias, c10::string_view format,
                             int64_t in_features, int64_t group_size, const OptionalTensor& codebook,
                             const OptionalTensor& tensor_scale) {
  const char* op = "tsquant::linear_compressed";
  check_plain(op, x, "x");
  const auto type = x.scalar_type();
  TORCH_CHECK(type == at::kFloat || type == at::kHalf || type == at::kBFloat16, op,
              ": x must be float32, float16 or bfloat16, but is ", type);
  TORCH_CHECK(x.dim() >= 1 && x.size(-1) == in_features, op, ": x must have ", in_features,
              " elements in its last dimension, but has the shape ", x.sizes());
  const CompressedMatrix matrix({op, weight, scale, zero_point, tensor_scale, codebook, format, group_size},
                                in_features);
  at::Tensor addend;
  if (bias.has_value() && bias->defined()) {
    check_plain(op, *bias, "bias");
    TORCH_CHECK(bias->dim() == 1 && bias->size(0) == matrix.rows() && bias->is_floating_point(), op, ": bias must be ",
                matrix.rows(), " floats, but is ", bias->toString(), " ", bias->sizes());
    addend = bias->to(at::kFloat).contiguous();
  }
  auto shape = x.sizes().vec();
  shape.back() = matrix.rows();
  at::Tensor result = at::empty(shape, at::TensorOptions(at::kFloat));
  if (result.numel() == 0) return result.to(type);
  const at::Tensor inputs = x.to(at::kFloat).contiguous();
  const LinearCall call = {matrix, inputs.data_ptr<float>(), inputs.numel() / in_features,
                           addend.defined() ? addend.data_ptr<float>() : nullptr, result.data_ptr<float>()};
  call.inputs <= kFewInputs ? products_of_few(call) : products_of_many(call);
  return result.to(type);
}

}  // namespace tsquant::kernels

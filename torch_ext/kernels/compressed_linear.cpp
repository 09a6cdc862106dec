#include <ATen/ATen.h>

#include "kernels/compressed_ops.h"
#include "kernels/dynamic_products.h"

namespace tsquant::kernels {
namespace {

/// Checks the arguments and calls products(call), which checks what only it asks for, also when the result is empty.
template <typename Products>
at::Tensor linear(const at::Tensor& x, const CompressedArguments& weight, const OptionalTensor& bias,
                  int64_t in_features, const Products& products) {
  const char* op = weight.op;
  check_plain(op, x, "x");
  const auto type = x.scalar_type();
  TORCH_CHECK(type == at::kFloat || type == at::kHalf || type == at::kBFloat16, op,
              ": x must be float32, float16 or bfloat16, but is ", type);
  TORCH_CHECK(x.dim() >= 1 && x.size(-1) == in_features, op, ": x must have ", in_features,
              " elements in its last dimension, but has the shape ", x.sizes());
  const CompressedMatrix matrix(weight, in_features);
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
  const at::Tensor inputs = x.to(at::kFloat).contiguous();
  products(LinearCall{matrix, inputs.data_ptr<float>(), inputs.numel() / in_features,
                      addend.defined() ? addend.data_ptr<float>() : nullptr, result.data_ptr<float>()});
  return result.to(type);
}

}  // namespace

at::Tensor linear_compressed(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& scale,
                             const OptionalTensor& zero_point, const OptionalTensor& bias, c10::string_view format,
                             int64_t in_features, int64_t group_size, const OptionalTensor& codebook,
                             const OptionalTensor& tensor_scale) {
  const CompressedArguments arguments = {
      "tsquant::linear_compressed", weight, scale, zero_point, tensor_scale, codebook, format, group_size};
  return linear(x, arguments, bias, in_features, [](const LinearCall& call) {
    if (call.inputs == 0 || call.matrix.rows() == 0) return;
    call.inputs <= kFewInputs ? products_of_few(call) : products_of_many(call);
  });
}

at::Tensor linear_compressed_dynamic(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& scale,
                                     const OptionalTensor& zero_point, const OptionalTensor& bias,
                                     c10::string_view format, int64_t in_features, int64_t group_size,
                                     const OptionalTensor& codebook, const OptionalTensor& tensor_scale) {
  const char* op = "tsquant::linear_compressed_dynamic";
  const CompressedArguments arguments = {op, weight, scale, zero_point, tensor_scale, codebook, format, group_size};
  return linear(x, arguments, bias, in_features, [&](const LinearCall& call) {
    TORCH_CHECK(compressed_format(format).integer(), op, ": ", format,
                " is no integer format; tsquant::linear_compressed reads it");
    TORCH_CHECK(call.matrix.group_size() <= kMostSummed, op, ": groups of ", call.matrix.group_size(),
                " elements are too long for sums of 32 bits; at most ", kMostSummed);
    if (call.inputs == 0 || call.matrix.rows() == 0) return;
    const bool few = call.inputs <= kFewDynamicInputs && supports_dynamic_few(call.matrix);
    few ? dynamic_products_of_few(call) : dynamic_products_of_many(call);
  });
}

}  // namespace tsquant::kernels

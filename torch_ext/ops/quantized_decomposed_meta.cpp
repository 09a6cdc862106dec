// Shapes, dtypes and layouts without data. The checks that need no values are the same as in the other kernels.
#include <ATen/ATen.h>

#include "ops/decomposed_checks.h"
#include "ops/quantized_decomposed.h"

namespace tsquant::decomposed::meta {
namespace {

Tensor like(const Tensor& input, ScalarType dtype) { return at::empty_like(input, input.options().dtype(dtype)); }

Tensor codes_like(const Tensor& input, int64_t quant_min, int64_t quant_max, ScalarType dtype) {
  check_float_input(input);
  check_quant_range(quant_min, quant_max, dtype);
  return like(input, dtype);
}

Tensor values_like(const Tensor& input, ScalarType dtype, OptionalDtype out_dtype) {
  check_code_input(input, dtype);
  check_output_dtype(out_dtype.value_or(at::kFloat));
  return like(input, out_dtype.value_or(at::kFloat));
}

Tensor one_per_token(const Tensor& input, ScalarType dtype) {
  TORCH_CHECK(input.dim() >= 1, "Expecting input to have at least one dimension");
  std::vector<int64_t> shape = input.sizes().vec();
  shape.back() = 1;
  return at::empty(shape, input.options().dtype(dtype));
}

void check_groups(const Tensor& input, const Tensor& scales, int64_t group_size) {
  TORCH_CHECK(group_size > 1, "Expecting group_size to be > 1, but got: ", group_size);
  TORCH_CHECK(input.dim() == 2, "Expecting a 2-d weight, but got ", input.dim(), " dimensions");
  const bool single = group_size > input.size(1) && scales.dim() > 0 && scales.size(-1) == 1;
  TORCH_CHECK(single || input.size(1) % group_size == 0, "Expecting the last dimension (", input.size(1),
              ") to be divisible by group_size (", group_size, ")");
}

}  // namespace

Tensor quantize_per_tensor(const Tensor& input, double scale, int64_t zero_point, int64_t quant_min, int64_t quant_max,
                           ScalarType dtype) {
  check_divisor_scale(scale);
  return codes_like(input, quant_min, quant_max, dtype);
}

Tensor quantize_per_tensor_tensor(const Tensor& input, const Tensor& scale, const Tensor& zero_point, int64_t quant_min,
                                  int64_t quant_max, ScalarType dtype) {
  check_one_element(scale, "scale");
  check_one_element(zero_point, "zero_point");
  return codes_like(input, quant_min, quant_max, dtype);
}

Tensor quantize_per_tensor_tensor2(const Tensor& input, const Tensor& scale, const Tensor& zero_point,
                                   const Tensor& quant_min, const Tensor& quant_max, ScalarType dtype) {
  check_one_element(quant_min, "quant_min");
  check_one_element(quant_max, "quant_max");
  const auto [lowest, highest] = code_bounds(dtype);
  return quantize_per_tensor_tensor(input, scale, zero_point, lowest, highest, dtype);
}

Tensor dequantize_per_tensor(const Tensor& input, double scale, int64_t zero_point, int64_t quant_min,
                             int64_t quant_max, ScalarType dtype, OptionalDtype out_dtype) {
  check_factor_scale(scale);
  return values_like(input, dtype, out_dtype);
}

Tensor dequantize_per_tensor_tensor(const Tensor& input, const Tensor& scale, const Tensor& zero_point,
                                    int64_t quant_min, int64_t quant_max, ScalarType dtype, OptionalDtype out_dtype) {
  check_one_element(scale, "scale");
  check_one_element(zero_point, "zero_point");
  return values_like(input, dtype, out_dtype);
}

Tensor dequantize_per_tensor_tensor2(const Tensor& input, const Tensor& scale, const Tensor& zero_point,
                                     const Tensor& quant_min, const Tensor& quant_max, ScalarType dtype,
                                     OptionalDtype out_dtype) {
  check_one_element(quant_min, "quant_min");
  check_one_element(quant_max, "quant_max");
  return dequantize_per_tensor_tensor(input, scale, zero_point, 0, 0, dtype, out_dtype);
}

Tensor quantize_per_channel(const Tensor& input, const Tensor& scales, const Tensor& zero_points, int64_t axis,
                            int64_t quant_min, int64_t quant_max, ScalarType dtype) {
  check_axis(input, axis, scales, zero_points);
  return codes_like(input, quant_min, quant_max, dtype);
}

Tensor dequantize_per_channel(const Tensor& input, const Tensor& scales, const OptionalTensor& zero_points,
                              int64_t axis, int64_t quant_min, int64_t quant_max, ScalarType dtype,
                              OptionalDtype out_dtype) {
  check_axis(input, axis, scales, zero_points);
  check_quant_range(quant_min, quant_max, dtype);
  return values_like(input, dtype, out_dtype);
}

std::tuple<Tensor, Tensor> choose_qparams(const Tensor& input, int64_t quant_min, int64_t quant_max, double eps,
                                          ScalarType dtype) {
  TORCH_CHECK(input.scalar_type() == at::kFloat,
              "Expecting input to have dtype float32, but got dtype: ", input.scalar_type());
  code_bounds(dtype);
  TORCH_CHECK(quant_min < quant_max, "Expecting quant_min to be smaller than quant_max but received min: ", quant_min,
              " max: ", quant_max);
  return {at::empty({1}, input.options().dtype(at::kDouble)), at::empty({1}, input.options().dtype(at::kLong))};
}

std::tuple<Tensor, Tensor> choose_qparams_per_token(const Tensor& input, ScalarType dtype) {
  TORCH_CHECK(dtype == at::kChar, "unsupported dtype in choose_qparams_per_token: ", dtype, "; int8 is supported");
  const ScalarType scale_dtype = input.scalar_type() == at::kHalf ? at::kFloat : input.scalar_type();
  return {one_per_token(input, scale_dtype), one_per_token(input, scale_dtype)};
}

std::tuple<Tensor, Tensor> choose_qparams_per_token_asymmetric(const Tensor& input, ScalarType dtype) {
  TORCH_CHECK(dtype == at::kChar, "unsupported dtype in choose_qparams_per_token_asymmetric: ", dtype,
              "; int8 is supported");
  return {one_per_token(input, at::kDouble), one_per_token(input, at::kLong)};
}

Tensor quantize_per_token(const Tensor& input, const Tensor& scales, const Tensor& zero_points, int64_t quant_min,
                          int64_t quant_max, ScalarType dtype) {
  check_quant_range(quant_min, quant_max, dtype);
  return like(input, dtype);
}

Tensor dequantize_per_token(const Tensor& input, const Tensor& scales, const Tensor& zero_points, int64_t quant_min,
                            int64_t quant_max, ScalarType dtype, ScalarType output_dtype) {
  check_quant_range(quant_min, quant_max, dtype);
  return values_like(input, dtype, output_dtype);
}

Tensor quantize_per_channel_group(const Tensor& input, const Tensor& scales, const Tensor& zero_points,
                                  int64_t quant_min, int64_t quant_max, ScalarType dtype, int64_t group_size) {
  check_quant_range(quant_min, quant_max, dtype);
  check_groups(input, scales, group_size);
  return at::empty(input.sizes(), input.options().dtype(dtype));
}

Tensor dequantize_per_channel_group(const Tensor& input, const Tensor& scales, const OptionalTensor& zero_points,
                                    int64_t quant_min, int64_t quant_max, ScalarType dtype, int64_t group_size,
                                    ScalarType output_dtype) {
  check_quant_range(quant_min, quant_max, dtype);
  check_code_input(input, dtype);
  check_output_dtype(output_dtype);
  check_groups(input, scales, group_size);
  return at::empty(input.sizes(), input.options().dtype(output_dtype));
}

Tensor fake_quant_per_channel(const Tensor& input, const Tensor& scales, const Tensor& zero_points, int64_t axis,
                              int64_t quant_min, int64_t quant_max) {
  check_axis(input, axis, scales, zero_points);
  return at::empty_like(input);
}

Tensor convert_element_type(const Tensor& input, ScalarType dtype) {
  check_value_dtype(dtype);
  return like(input, dtype);
}

}  // namespace tsquant::decomposed::meta

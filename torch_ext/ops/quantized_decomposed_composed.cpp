// The same operators out of ATen operators: for devices without a kernel of ours, and for the arguments that the CPU
// loops leave out (fractional zero points, double scales, output types other than float32).
#include <ATen/ATen.h>

#include "ops/decomposed_checks.h"
#include "ops/quantize_kernels.h"
#include "ops/quantized_decomposed.h"

namespace tsquant::decomposed::composed {
namespace {

/// [C] -> [1, .., C, .., 1], to broadcast against `input` along axis.
Tensor along_axis(const Tensor& values, const Tensor& input, int64_t axis) {
  std::vector<int64_t> shape(input.dim(), 1);
  shape[axis] = values.numel();
  return values.reshape(shape);
}

}  // namespace

Tensor saturate(const Tensor& values, int64_t quant_min, int64_t quant_max, ScalarType dtype) {
  // In double, because float32 does not hold every int32 bound. `>=` is false for NaN.
  const Tensor wide = values.to(at::kDouble);
  const Tensor lower = at::full({}, static_cast<double>(quant_min), wide.options());
  return at::where(wide >= lower, wide, lower).clamp_max(static_cast<double>(quant_max)).to(dtype);
}

Tensor quantize_per_tensor(const Tensor& input, double scale, int64_t zero_point, int64_t quant_min, int64_t quant_max,
                           ScalarType dtype) {
  check_float_input(input);
  check_quant_range(quant_min, quant_max, dtype);
  check_divisor_scale(scale);
  const Tensor rounded = at::round(input.to(at::kFloat) * inverse_scale(scale));
  return saturate(rounded + zero_point, quant_min, quant_max, dtype);
}

Tensor dequantize_per_tensor(const Tensor& input, double scale, int64_t zero_point, int64_t quant_min,
                             int64_t quant_max, ScalarType dtype, OptionalDtype out_dtype) {
  check_code_input(input, dtype);
  check_factor_scale(scale);
  const ScalarType to = out_dtype.value_or(at::kFloat);
  check_output_dtype(to);
  // float32 takes the difference in integers as LibTorch does; other types subtract in that type as PyTorch 2 does.
  if (to == at::kFloat) return (input.to(at::kLong) - zero_point).to(at::kFloat) * scale;
  return (input.to(to) - zero_point) * scale;
}

Tensor quantize_per_channel(const Tensor& input, const Tensor& scales, const Tensor& zero_points, int64_t axis,
                            int64_t quant_min, int64_t quant_max, ScalarType dtype) {
  check_float_input(input);
  check_quant_range(quant_min, quant_max, dtype);
  axis = check_axis(input, axis, scales, zero_points);
  check_divisor_scales(scales);
  const Tensor inverse = along_axis(scales.to(at::kFloat).reciprocal(), input, axis);
  const Tensor shift = along_axis(zero_points.to(at::kFloat), input, axis);
  return saturate(at::round(input.to(at::kFloat) * inverse) + shift, quant_min, quant_max, dtype);
}

Tensor dequantize_per_channel(const Tensor& input, const Tensor& scales, const OptionalTensor& zero_points,
                              int64_t axis, int64_t quant_min, int64_t quant_max, ScalarType dtype,
                              OptionalDtype out_dtype) {
  check_code_input(input, dtype);
  check_quant_range(quant_min, quant_max, dtype);
  axis = check_axis(input, axis, scales, zero_points);
  check_factor_scales(scales);
  const ScalarType to = out_dtype.value_or(at::kFloat);
  check_output_dtype(to);
  Tensor centred = input.to(at::kLong);
  if (zero_points.has_value()) centred = centred - along_axis(*zero_points, input, axis);
  return (centred * along_axis(scales, input, axis)).to(to);
}

Tensor convert_element_type(const Tensor& input, ScalarType dtype) {
  check_value_dtype(dtype);
  return input.to(dtype, /*non_blocking=*/false, /*copy=*/false);
}

}  // namespace tsquant::decomposed::composed

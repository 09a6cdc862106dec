// The C++ side of quantized_decomposed::*. Each operator has up to three kernels: `cpu` with the SIMD loops, `composed`
// out of ATen operators for any other device, and `meta` for shapes alone. Schemas: quantized_decomposed.cpp.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <tuple>

namespace tsquant::decomposed {

using at::ScalarType;
using at::Tensor;
using OptionalDtype = c10::optional<at::ScalarType>;
using OptionalTensor = c10::optional<at::Tensor>;

namespace cpu {
Tensor quantize_per_tensor(const Tensor& input, double scale, int64_t zero_point, int64_t quant_min, int64_t quant_max,
                           ScalarType dtype);
Tensor dequantize_per_tensor(const Tensor& input, double scale, int64_t zero_point, int64_t quant_min,
                             int64_t quant_max, ScalarType dtype, OptionalDtype out_dtype);
Tensor quantize_per_channel(const Tensor& input, const Tensor& scales, const Tensor& zero_points, int64_t axis,
                            int64_t quant_min, int64_t quant_max, ScalarType dtype);
Tensor dequantize_per_channel(const Tensor& input, const Tensor& scales, const OptionalTensor& zero_points,
                              int64_t axis, int64_t quant_min, int64_t quant_max, ScalarType dtype,
                              OptionalDtype out_dtype);
}  // namespace cpu

namespace composed {
Tensor quantize_per_tensor(const Tensor& input, double scale, int64_t zero_point, int64_t quant_min, int64_t quant_max,
                           ScalarType dtype);
Tensor dequantize_per_tensor(const Tensor& input, double scale, int64_t zero_point, int64_t quant_min,
                             int64_t quant_max, ScalarType dtype, OptionalDtype out_dtype);
Tensor quantize_per_channel(const Tensor& input, const Tensor& scales, const Tensor& zero_points, int64_t axis,
                            int64_t quant_min, int64_t quant_max, ScalarType dtype);
Tensor dequantize_per_channel(const Tensor& input, const Tensor& scales, const OptionalTensor& zero_points,
                              int64_t axis, int64_t quant_min, int64_t quant_max, ScalarType dtype,
                              OptionalDtype out_dtype);

/// Codes of float values that are already scaled, shifted and rounded; NaN becomes quant_min.
Tensor saturate(const Tensor& values, int64_t quant_min, int64_t quant_max, ScalarType dtype);

std::tuple<Tensor, Tensor> choose_qparams(const Tensor& input, int64_t quant_min, int64_t quant_max, double eps,
                                          ScalarType dtype);
std::tuple<Tensor, Tensor> choose_qparams_symmetric(const Tensor& input, int64_t quant_min, int64_t quant_max,
                                                    double eps, ScalarType dtype);

std::tuple<Tensor, Tensor> choose_qparams_per_token(const Tensor& input, ScalarType dtype);
std::tuple<Tensor, Tensor> choose_qparams_per_token_asymmetric(const Tensor& input, ScalarType dtype);
Tensor quantize_per_token(const Tensor& input, const Tensor& scales, const Tensor& zero_points, int64_t quant_min,
                          int64_t quant_max, ScalarType dtype);
Tensor dequantize_per_token(const Tensor& input, const Tensor& scales, const Tensor& zero_points, int64_t quant_min,
                            int64_t quant_max, ScalarType dtype, ScalarType output_dtype);
Tensor quantize_per_channel_group(const Tensor& input, const Tensor& scales, const Tensor& zero_points,
                                  int64_t quant_min, int64_t quant_max, ScalarType dtype, int64_t group_size);
Tensor dequantize_per_channel_group(const Tensor& input, const Tensor& scales, const OptionalTensor& zero_points,
                                    int64_t quant_min, int64_t quant_max, ScalarType dtype, int64_t group_size,
                                    ScalarType output_dtype);
Tensor fake_quant_per_channel(const Tensor& input, const Tensor& scales, const Tensor& zero_points, int64_t axis,
                              int64_t quant_min, int64_t quant_max);
Tensor convert_element_type(const Tensor& input, ScalarType dtype);
}  // namespace composed

/// fake_quant_per_channel with the straight-through gradient: 1 where the code was inside the range, 0 elsewhere.
Tensor fake_quant_per_channel_autograd(const Tensor& input, const Tensor& scales, const Tensor& zero_points,
                                       int64_t axis, int64_t quant_min, int64_t quant_max);

namespace meta {
Tensor quantize_per_tensor(const Tensor& input, double scale, int64_t zero_point, int64_t quant_min, int64_t quant_max,
                           ScalarType dtype);
Tensor quantize_per_tensor_tensor(const Tensor& input, const Tensor& scale, const Tensor& zero_point, int64_t quant_min,
                                  int64_t quant_max, ScalarType dtype);
Tensor quantize_per_tensor_tensor2(const Tensor& input, const Tensor& scale, const Tensor& zero_point,
                                   const Tensor& quant_min, const Tensor& quant_max, ScalarType dtype);
Tensor dequantize_per_tensor(const Tensor& input, double scale, int64_t zero_point, int64_t quant_min,
                             int64_t quant_max, ScalarType dtype, OptionalDtype out_dtype);
Tensor dequantize_per_tensor_tensor(const Tensor& input, const Tensor& scale, const Tensor& zero_point,
                                    int64_t quant_min, int64_t quant_max, ScalarType dtype, OptionalDtype out_dtype);
Tensor dequantize_per_tensor_tensor2(const Tensor& input, const Tensor& scale, const Tensor& zero_point,
                                     const Tensor& quant_min, const Tensor& quant_max, ScalarType dtype,
                                     OptionalDtype out_dtype);
Tensor quantize_per_channel(const Tensor& input, const Tensor& scales, const Tensor& zero_points, int64_t axis,
                            int64_t quant_min, int64_t quant_max, ScalarType dtype);
Tensor dequantize_per_channel(const Tensor& input, const Tensor& scales, const OptionalTensor& zero_points,
                              int64_t axis, int64_t quant_min, int64_t quant_max, ScalarType dtype,
                              OptionalDtype out_dtype);
std::tuple<Tensor, Tensor> choose_qparams(const Tensor& input, int64_t quant_min, int64_t quant_max, double eps,
                                          ScalarType dtype);
std::tuple<Tensor, Tensor> choose_qparams_per_token(const Tensor& input, ScalarType dtype);
std::tuple<Tensor, Tensor> choose_qparams_per_token_asymmetric(const Tensor& input, ScalarType dtype);
Tensor quantize_per_token(const Tensor& input, const Tensor& scales, const Tensor& zero_points, int64_t quant_min,
                          int64_t quant_max, ScalarType dtype);
Tensor dequantize_per_token(const Tensor& input, const Tensor& scales, const Tensor& zero_points, int64_t quant_min,
                            int64_t quant_max, ScalarType dtype, ScalarType output_dtype);
Tensor quantize_per_channel_group(const Tensor& input, const Tensor& scales, const Tensor& zero_points,
                                  int64_t quant_min, int64_t quant_max, ScalarType dtype, int64_t group_size);
Tensor dequantize_per_channel_group(const Tensor& input, const Tensor& scales, const OptionalTensor& zero_points,
                                    int64_t quant_min, int64_t quant_max, ScalarType dtype, int64_t group_size,
                                    ScalarType output_dtype);
Tensor fake_quant_per_channel(const Tensor& input, const Tensor& scales, const Tensor& zero_points, int64_t axis,
                              int64_t quant_min, int64_t quant_max);
Tensor convert_element_type(const Tensor& input, ScalarType dtype);
}  // namespace meta

}  // namespace tsquant::decomposed

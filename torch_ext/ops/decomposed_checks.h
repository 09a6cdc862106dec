// What quantized_decomposed::* demands of its arguments. Messages name the operator and say what was received.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <utility>

namespace tsquant::decomposed {

/// Smallest and largest code of an integer dtype; ValueError for a dtype that cannot hold codes.
std::pair<int64_t, int64_t> code_bounds(c10::ScalarType dtype);

/// quant_min <= quant_max, both inside dtype.
void check_quant_range(int64_t quant_min, int64_t quant_max, c10::ScalarType dtype);
/// float32, or float16/bfloat16, which are widened.
void check_float_input(const at::Tensor& input);
void check_code_input(const at::Tensor& input, c10::ScalarType dtype);
void check_output_dtype(c10::ScalarType out_dtype);

/// Limits between which differences do not overflow, for operators that take a wider range than their dtype holds.
void check_code_limits(int64_t quant_min, int64_t quant_max);

/// A call may carry any number as dtype; LibTorch looks it up without a check.
void check_value_dtype(c10::ScalarType dtype);
/// A scale to divide by is positive and finite, one to multiply by only finite.
void check_divisor_scale(double scale);
void check_factor_scale(double scale);
/// As above for a tensor of scales, element by element.
void check_divisor_scales(const at::Tensor& scales);
void check_factor_scales(const at::Tensor& scales);
void check_one_element(const at::Tensor& tensor, const char* name);
/// Wraps a negative axis and checks that scales and zero points (when given) have one element per channel.
int64_t check_axis(const at::Tensor& input, int64_t axis, const at::Tensor& scales,
                   const c10::optional<at::Tensor>& zero_points);

}  // namespace tsquant::decomposed

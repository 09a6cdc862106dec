#include "ops/decomposed_checks.h"

#include <ATen/ops/isfinite.h>
#include <c10/util/Exception.h>

#include <cmath>
#include <limits>

namespace tsquant::decomposed {

std::pair<int64_t, int64_t> code_bounds(c10::ScalarType dtype) {
  switch (dtype) {
    case c10::kByte:
      return {0, 255};
    case c10::kChar:
      return {-128, 127};
    case c10::kShort:
      return {-32768, 32767};
    case c10::kInt:
      return {std::numeric_limits<int32_t>::min(), std::numeric_limits<int32_t>::max()};
    default:
      TORCH_CHECK_VALUE(false, "quantized_decomposed: unsupported dtype ", dtype,
                        "; codes are uint8, int8, int16 or int32");
  }
}

void check_quant_range(int64_t quant_min, int64_t quant_max, c10::ScalarType dtype) {
  const auto [lowest, highest] = code_bounds(dtype);
  TORCH_CHECK(quant_min >= lowest, "quant_min out of bound for dtype ", dtype, ", quant_min_lower_bound: ", lowest,
              " quant_min: ", quant_min);
  TORCH_CHECK(quant_max <= highest, "quant_max out of bound for dtype ", dtype, ", quant_max_upper_bound: ", highest,
              " quant_max: ", quant_max);
  TORCH_CHECK(quant_min <= quant_max, "Expecting quant_min to be at most quant_max but received min: ", quant_min,
              " max: ", quant_max);
}

void check_code_limits(int64_t quant_min, int64_t quant_max) {
  constexpr int64_t kLimit = int64_t{1} << 32;
  TORCH_CHECK(-kLimit <= quant_min && quant_max <= kLimit,
              "Expecting quant_min and quant_max of 32-bit codes, but got ", quant_min, " and ", quant_max);
}

void check_float_input(const at::Tensor& input) {
  const auto dtype = input.scalar_type();
  TORCH_CHECK(dtype == c10::kFloat || dtype == c10::kHalf || dtype == c10::kBFloat16,
              "Expecting input to have dtype float32, float16 or bfloat16, but got dtype: ", dtype);
}

void check_code_input(const at::Tensor& input, c10::ScalarType dtype) {
  code_bounds(dtype);
  TORCH_CHECK(input.scalar_type() == dtype, "Expecting input to have dtype ", dtype,
              ", but got dtype: ", input.scalar_type());
}

void check_output_dtype(c10::ScalarType out_dtype) {
  TORCH_CHECK(c10::isFloatingType(out_dtype), "Expecting a floating output dtype, but got: ", out_dtype);
}

void check_value_dtype(c10::ScalarType dtype) {
  const auto number = static_cast<int64_t>(dtype);
  TORCH_CHECK(number >= 0 && dtype < c10::ScalarType::Undefined && !c10::isQIntType(dtype),
              "Expecting a dtype of plain numbers, but got number ", number);
}

void check_divisor_scale(double scale) {
  // float(scale) is what divides, so a double that is too small for float32 counts as zero.
  TORCH_CHECK(scale > 0.0 && scale <= std::numeric_limits<float>::max() && static_cast<float>(scale) > 0.0f,
              "Expecting scale to be positive and finite in float32, but got: ", scale);
}

void check_factor_scale(double scale) {
  TORCH_CHECK(std::isfinite(scale), "Expecting scale to be finite, but got: ", scale);
}

void check_divisor_scales(const at::Tensor& scales) {
  const at::Tensor narrow = scales.to(c10::kFloat);
  TORCH_CHECK((at::isfinite(narrow) & (narrow > 0)).all().item<bool>(),
              "Expecting all scales to be positive and finite in float32");
}

void check_factor_scales(const at::Tensor& scales) {
  TORCH_CHECK(at::isfinite(scales).all().item<bool>(), "Expecting all scales to be finite");
}

void check_one_element(const at::Tensor& tensor, const char* name) {
  TORCH_CHECK(tensor.numel() == 1, "Expecting ", name, " tensor to be one element, but received: ", tensor.numel());
}

int64_t check_axis(const at::Tensor& input, int64_t axis, const at::Tensor& scales,
                   const c10::optional<at::Tensor>& zero_points) {
  const int64_t dim = input.dim();
  TORCH_CHECK(axis < dim && axis >= -dim, "Expecting axis to be < ", dim, ", but got: ", axis);
  const int64_t wrapped = axis < 0 ? axis + dim : axis;
  const int64_t channels = input.size(wrapped);
  TORCH_CHECK(scales.dim() <= 1 && scales.numel() == channels, "Expecting one scale per channel of axis ", axis, " (",
              channels, "), but got scales of shape ", scales.sizes());
  if (zero_points.has_value()) {
    TORCH_CHECK(zero_points->dim() <= 1 && zero_points->numel() == channels,
                "Expecting one zero point per channel of axis ", axis, " (", channels,
                "), but got zero_points of shape ", zero_points->sizes());
  }
  return wrapped;
}

}  // namespace tsquant::decomposed

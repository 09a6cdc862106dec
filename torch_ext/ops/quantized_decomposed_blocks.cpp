// quantize/dequantize per token (row of the last dimension) and per group of a weight's row. Unlike the per-tensor
// operators these add the zero point before rounding, as PyTorch 2 defines them.
#include <ATen/ATen.h>

#include "ops/decomposed_checks.h"
#include "ops/quantized_decomposed.h"

namespace tsquant::decomposed::composed {
namespace {

/// One value per token, shaped to broadcast along the last dimension.
Tensor per_token(const Tensor& values, const Tensor& input, const char* name) {
  TORCH_CHECK(input.dim() >= 1, "Expecting input to have at least one dimension");
  std::vector<int64_t> shape = input.sizes().vec();
  shape.back() = 1;
  const int64_t tokens = c10::multiply_integers(shape);
  TORCH_CHECK(values.numel() == tokens, "num_tokens: ", tokens, " ", name, ": ", values.sizes());
  return values.reshape(shape);
}

/// A weight as rows of one group each.
Tensor groups_of(const Tensor& weight, const Tensor& scales, int64_t group_size) {
  TORCH_CHECK(group_size > 1, "Expecting group_size to be > 1, but got: ", group_size);
  TORCH_CHECK(weight.dim() == 2, "Expecting a 2-d weight, but got ", weight.dim(), " dimensions");
  const int64_t width = weight.size(1);
  // A single column of scales means one group per row, whatever the group size says.
  if (group_size > width && scales.dim() > 0 && scales.size(-1) == 1) group_size = width;
  TORCH_CHECK(group_size > 0 && width % group_size == 0, "Expecting the last dimension (", width,
              ") to be divisible by group_size (", group_size, ")");
  TORCH_CHECK(scales.numel() == weight.size(0) * (width / group_size), "Expecting scales of shape [", weight.size(0),
              ", ", width / group_size, "], but got ", scales.sizes());
  return weight.reshape({-1, group_size});
}

Tensor group_zero_points(const Tensor& zero_points, const Tensor& scales) {
  TORCH_CHECK(zero_points.numel() == scales.numel(), "Expecting as many zero points as scales, but got ",
              zero_points.sizes(), " and ", scales.sizes());
  return zero_points.reshape({-1, 1});
}

}  // namespace

Tensor quantize_per_token(const Tensor& input, const Tensor& scales, const Tensor& zero_points, int64_t quant_min,
                          int64_t quant_max, ScalarType dtype) {
  check_quant_range(quant_min, quant_max, dtype);
  check_divisor_scales(scales);
  const Tensor scaled = input.mul(1.0 / per_token(scales, input, "scales"));
  return saturate(scaled.add(per_token(zero_points, input, "zero_points")).round(), quant_min, quant_max, dtype);
}

Tensor dequantize_per_token(const Tensor& input, const Tensor& scales, const Tensor& zero_points, int64_t quant_min,
                            int64_t quant_max, ScalarType dtype, ScalarType output_dtype) {
  check_code_input(input, dtype);
  check_quant_range(quant_min, quant_max, dtype);
  check_output_dtype(output_dtype);
  const Tensor centred = input.to(at::kInt) - per_token(zero_points, input, "zero_points");
  return (centred * per_token(scales, input, "scales")).to(output_dtype);
}

Tensor quantize_per_channel_group(const Tensor& input, const Tensor& scales, const Tensor& zero_points,
                                  int64_t quant_min, int64_t quant_max, ScalarType dtype, int64_t group_size) {
  check_quant_range(quant_min, quant_max, dtype);
  const Tensor groups = groups_of(input, scales, group_size);
  TORCH_CHECK(!groups.isnan().any().item<bool>(), "quantize_per_channel_group: the input contains NaN");
  check_divisor_scales(scales);
  const Tensor shift = group_zero_points(zero_points, scales);
  const Tensor rounded = groups.mul(1.0 / scales.reshape({-1, 1})).add(shift).round();
  return saturate(rounded, quant_min, quant_max, dtype).reshape_as(input);
}

Tensor dequantize_per_channel_group(const Tensor& input, const Tensor& scales, const OptionalTensor& zero_points,
                                    int64_t quant_min, int64_t quant_max, ScalarType dtype, int64_t group_size,
                                    ScalarType output_dtype) {
  check_code_input(input, dtype);
  check_quant_range(quant_min, quant_max, dtype);
  check_output_dtype(output_dtype);
  Tensor centred = groups_of(input, scales, group_size).to(at::kInt);
  if (zero_points.has_value()) centred = centred - group_zero_points(*zero_points, scales);
  return centred.mul(scales.reshape({-1, 1})).reshape_as(input).to(output_dtype);
}

}  // namespace tsquant::decomposed::composed

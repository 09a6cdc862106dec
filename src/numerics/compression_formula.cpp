#include <ATen/ATen.h>

#include <algorithm>
#include <limits>

#include "numerics/formulas.h"
#include "numerics/row_loops.h"
#include "numerics/scale_format.h"

namespace tsquant {

namespace {

/// Smaller scales become this one, whatever their sign.
at::Tensor not_too_small(const at::Tensor& scale) {
  constexpr float kEps = std::numeric_limits<float>::epsilon();
  return at::where(scale.abs() < kEps, at::full_like(scale, kEps), scale);
}

/// calculate_float_quantization_params
QParams compressed_levels(const Range& range, const QuantizationSpec& spec) {
  QParams result = empty_qparams(spec, range);
  const auto largest = at::maximum(range.max.abs(), range.min.abs()).to(at::kFloat);
  const auto stored = store_scale(not_too_small(shaped_parameters(largest / largest_level(spec), spec)),
                                  format_info(spec.format).scale);
  result.scale = stored.scale;
  result.tensor_scale = stored.tensor_scale;
  result.zero_point = at::zeros(result.scale.sizes(), at::kLong);
  result.dtype = c10::kByte;
  result.quant_min = 0;
  result.quant_max = 255;
  return result;
}

RangeExtremes extremes_of(const Range& range) {
  const auto low = range.min.to(at::kFloat).contiguous(), high = range.max.to(at::kFloat).contiguous();
  return extremes_of_ranges(low.data_ptr<float>(), high.data_ptr<float>(), low.numel());
}

float half_step_of(float width, const IntegerCodes& codes) {
  return std::max(width / static_cast<float>(codes.high - codes.low), std::numeric_limits<float>::epsilon()) / 2;
}

/// Parameters of ranges widened to hold 0 for those whose values are all further from 0 than `tolerated`. NNCF's zero
/// point is clamped to the codes: where it would lie outside, the value furthest from 0 moves by the magnitude of the
/// nearest one. A filter of few values or a column of equal ones would be lost, while beside a wide range this is no
/// more than that range's own rounding.
void widen_to_zero(const float* low, const float* high, int64_t count, const CodeBounds& bounds, float tolerated,
                   float* scale, int64_t* zero_point) {
  const float zero = 0;
  for (int64_t i = 0; i < count; ++i) {
    const bool above = low[i] > tolerated, below = high[i] < -tolerated;
    if (!above && !below) continue;
    asymmetric_parameters(above ? &zero : low + i, above ? high + i : &zero, 1, bounds, scale + i, zero_point + i);
  }
}

}  // namespace

bool clamps_zero_points(const QuantizationSpec& spec) {
  return spec.formula == QParamsFormula::kNncfCompression && format_info(spec.format).integer &&
         spec.mode == QuantizationScheme::kAsymmetric;
}

float largest_half_step(const Range& range, const QuantizationSpec& spec) {
  return half_step_of(extremes_of(range).width, integer_codes(spec, /*is_signed=*/false));
}

bool loses_values_of_one_sign(const Range& range, const QuantizationSpec& spec) {
  const RangeExtremes extremes = extremes_of(range);
  return extremes.distance > half_step_of(extremes.width, integer_codes(spec, /*is_signed=*/false));
}

/// Source: calculate_integer_quantization_params, calculate_scale_zero_point and _calculate_signed_scale.
QParams compression_qparams(const Range& range, const QuantizationSpec& spec, const c10::optional<float>& tolerated) {
  if (!format_info(spec.format).integer) return compressed_levels(range, spec);
  const bool symmetric = spec.mode == QuantizationScheme::kSymmetric;
  const IntegerCodes codes = integer_codes(spec, symmetric);
  const auto low = shaped_parameters(range.min.to(at::kFloat), spec);
  const auto high = shaped_parameters(range.max.to(at::kFloat), spec);

  QParams result = empty_qparams(spec, range);
  result.dtype = codes.dtype;
  result.quant_min = codes.low;
  result.quant_max = codes.high;
  result.scale = at::empty_like(low);
  result.zero_point = at::zeros(low.sizes(), at::kLong);
  const auto *lowest = low.data_ptr<float>(), *highest = high.data_ptr<float>();
  auto* scale = result.scale.data_ptr<float>();
  if (symmetric) {
    symmetric_scales(lowest, highest, low.numel(), static_cast<float>(largest_level(spec)), scale);
  } else {
    const CodeBounds bounds{static_cast<float>(codes.low), static_cast<float>(codes.high)};
    auto* zero_point = result.zero_point.data_ptr<int64_t>();
    asymmetric_parameters(lowest, highest, low.numel(), bounds, scale, zero_point);
    const RangeExtremes extremes = extremes_of_ranges(lowest, highest, low.numel());
    const float bound = tolerated ? *tolerated : half_step_of(extremes.width, codes);
    if (extremes.distance > bound) widen_to_zero(lowest, highest, low.numel(), bounds, bound, scale, zero_point);
  }
  return result;
}

}  // namespace tsquant

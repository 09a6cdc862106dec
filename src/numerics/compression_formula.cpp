#include <ATen/ATen.h>

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

}  // namespace

/// Source: calculate_integer_quantization_params, calculate_scale_zero_point and _calculate_signed_scale; but
/// asymmetric ranges are widened to hold 0. NNCF's zero point is clamped to the codes, so that values of one sign,
/// which a filter of few values or a column of constants has, all become the code at one end there.
QParams compression_qparams(const Range& range, const QuantizationSpec& spec) {
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
    asymmetric_parameters(lowest, highest, low.numel(), bounds, scale, result.zero_point.data_ptr<int64_t>());
  }
  return result;
}

}  // namespace tsquant

#include <ATen/ATen.h>

#include <algorithm>
#include <limits>

#include "numerics/formulas.h"

namespace tsquant {

namespace {

/// The range as it is; a row of one value gets the scale 1 and that value as its lowest code.
QParams float_zero_qparams(const Range& range, const QuantizationSpec& spec) {
  const IntegerCodes codes = integer_codes(spec, /*is_signed=*/false);
  const auto type = computed_in(range);
  const auto low = range.min.to(type), high = range.max.to(type);
  auto scale = (high - low) / static_cast<double>(codes.high - codes.low);
  scale = at::where(scale > spec.eps, scale, at::ones_like(scale)).to(at::kFloat);
  QParams result = empty_qparams(spec, range);
  result.scale = shaped_parameters(scale, spec);
  result.zero_point = shaped_parameters((-low / scale).to(at::kFloat), spec);
  result.quant_min = codes.low;
  result.quant_max = codes.high;
  result.dtype = codes.dtype;
  return result;
}

}  // namespace

/// Source: UniformQuantizationObserverBase._calculate_qparams (1.13.1).
QParams torch_ao_qparams(const Range& range, const QuantizationSpec& spec) {
  if (spec.float_zero_point) return float_zero_qparams(range, spec);
  const IntegerCodes codes = integer_codes(spec, /*is_signed=*/false);
  const auto type = computed_in(range);
  const auto low = range.min.to(type).clamp_max(0.0), high = range.max.to(type).clamp_min(0.0);
  const double steps = static_cast<double>(codes.high - codes.low);
  const double eps = std::max<double>(spec.eps, std::numeric_limits<float>::min());

  if (spec.mode == QuantizationScheme::kSymmetric) {
    const auto scale = (at::maximum(-low, high) / (steps / 2)).clamp_min(eps);
    // torch.ao: 128 for the whole of quint8, but with explicit limits the middle of [0, 255], rounded down, is 127.
    const int64_t between = codes.low + codes.high + (spec.quant_min ? 0 : 1);
    const int64_t middle = codes.dtype == c10::kByte ? between / 2 : 0;
    return integer_qparams(scale, at::full_like(scale, middle), codes, spec, range);
  }
  const auto scale = ((high - low) / steps).clamp_min(eps);
  const auto zero_point = static_cast<double>(codes.low) - at::round(low / scale);
  return integer_qparams(scale, zero_point, codes, spec, range);
}

}  // namespace tsquant

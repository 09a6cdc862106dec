#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>

#include "numerics/formulas.h"
#include "tsquant/error.h"

namespace tsquant {

namespace {

struct Interval {
  at::Tensor low, high;
};

/// fake_quantize.py, fix_zero_filters_symmetric.
at::Tensor widened(const at::Tensor& max) { return at::maximum((max.max() * 0.01).clamp_min(kSmallestMagnitude), max); }

/// fake_quantize.py, symmetric_range. `levels` counts those of the signed range.
Interval symmetric_interval(const at::Tensor& max, bool is_signed, int64_t levels, bool narrow) {
  const auto high = widened(max);
  if (!is_signed) return {at::zeros_like(high), high};
  const double factor = narrow ? 1.0 : static_cast<double>(levels) / static_cast<double>(levels - 2);
  return {-high * factor, high};
}

/// fake_quantize.py, fix_zero_filters_asymmetric, include zero and tune_range: moves one border outwards so that zero
/// falls on one of top + 1 levels.
Interval asymmetric_interval(const at::Tensor& min, const at::Tensor& max, double top) {
  const auto range = max - min;
  const auto correction =
      at::where(range > kSmallestWidth, at::zeros_like(range), at::full_like(range, kSmallestWidth));
  const auto left = (min - correction).clamp_max(0.0);
  const auto right = (max + correction).clamp_min(0.0);

  const auto code = at::round(-left * ((right - left).reciprocal() * top));
  const auto moved_left = at::where(code < top, code / (code - top) * right, left);
  const auto moved_right = at::where(code > 0.0, (code - top) / code * left, right);
  const auto keep_right = (right - moved_left) > (moved_right - left);
  return {at::where(keep_right, moved_left, left), at::where(keep_right, right, moved_right)};
}

Interval signed_by_bits(const at::Tensor& max, bool is_signed, const QuantizationSpec& spec) {
  const int bits = format_info(spec.format).bits;
  const int64_t levels = (int64_t{1} << bits) - (spec.narrow_range ? 1 : 0);
  if (!spec.half_range) return symmetric_interval(max, is_signed, levels, spec.narrow_range);
  const int64_t half = int64_t{1} << (bits - 1);
  if (is_signed && !spec.narrow_range) {
    // NNCF stretches an interval of 7 bits to 8 bits, which moves zero half a level away from level 0 (its tables force
    // such weights to be narrow, so it never happens there). The scale is NNCF's, the borders are where zero stays
    // zero.
    const auto step = symmetric_interval(max, is_signed, half, true).high / static_cast<double>(half / 2 - 1);
    return {step * static_cast<double>(-half), step * static_cast<double>(half - 1)};
  }
  auto result = symmetric_interval(max, is_signed, half, spec.narrow_range);
  const double factor = static_cast<double>(levels - 1) / static_cast<double>(half - 1);
  return {result.low * factor, result.high * factor};
}

/// For codes that the spec names itself: zero is code 0, or the lowest one, or the middle one where the codes are
/// unsigned and the values are not; the largest magnitude is the nearer end of the codes.
Interval symmetric_by_codes(const at::Tensor& max, bool is_signed, const IntegerCodes& codes) {
  const int64_t unsigned_zero = is_signed ? (codes.low + codes.high + 1) / 2 : codes.low;
  const int64_t zero = codes.dtype == c10::kChar ? 0 : unsigned_zero;
  const int64_t above = codes.high - zero, below = zero - codes.low;
  const int64_t steps = zero == codes.low ? above : std::min(above, below);
  if (steps < 1) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("symmetric codes from {} to {} have none above zero", codes.low, codes.high),
                "QuantizationSpec", "raise quant_max, or choose the asymmetric mode");
  }
  const auto step = widened(max) / static_cast<double>(steps);
  return {step * static_cast<double>(-below), step * static_cast<double>(above)};
}

bool is_signed_range(const at::Tensor& min, const QuantizationSpec& spec) {
  if (spec.signedness_to_force) return *spec.signedness_to_force;
  return (min < 0).any().item<bool>();
}

}  // namespace

/// Source: calculate_quantizer_parameters, then _create_quantizer of min_max/torch_fx_backend.py.
QParams nncf_qparams(const Range& range, const QuantizationSpec& spec) {
  const auto type = computed_in(range);
  const auto min = range.min.to(type);
  auto max = range.max.to(type);

  const bool symmetric = spec.mode == QuantizationScheme::kSymmetric;
  const bool own_codes = spec.dtype || spec.quant_min;
  const bool is_signed = symmetric && is_signed_range(min, spec);
  IntegerCodes codes = integer_codes(spec, is_signed);
  const double top = static_cast<double>(codes.high - codes.low);
  if (spec.narrow_range && !spec.quant_min) (codes.dtype == c10::kChar ? codes.low += 1 : codes.high -= 1);

  // NNCF's own statistics already hold the largest magnitude; the torch.ao observers hold the plain maximum.
  if (symmetric && spec.observer != ObserverKind::kDefault) max = at::maximum(max, -min);
  const auto interval = !symmetric  ? asymmetric_interval(min, max, top)
                        : own_codes ? symmetric_by_codes(max.clamp_min(0.0), is_signed, codes)
                                    : signed_by_bits(max.clamp_min(0.0), is_signed, spec);

  const auto width = interval.high - interval.low;
  const auto zero_point =
      (interval.high * static_cast<double>(codes.low) - interval.low * static_cast<double>(codes.high)) / width;
  const auto scale = width / static_cast<double>(codes.high - codes.low);
  return integer_qparams(scale, at::round(zero_point), codes, spec, range);
}

}  // namespace tsquant

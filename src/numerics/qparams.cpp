#include "numerics/qparams.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <limits>

#include "numerics/fp8.h"
#include "tsquant/error.h"

namespace tsquant {

namespace {

/// Beyond this magnitude `level * range` overflows float32; the same formulas then run in float64.
constexpr double kFloatSafe = 1e30;

/// fake_quantize.py: what narrower ranges are widened to.
constexpr double kSmallestMagnitude = 8e-5, kSmallestWidth = 8e-4;

struct Levels {
  int64_t low, high;
};

struct Interval {
  at::Tensor low, high;
};

void check_range(const Range& range, const QuantizationSpec& spec) {
  if (!range.min.defined() || !range.max.defined() || range.min.numel() == 0 ||
      range.min.sizes() != range.max.sizes()) {
    throw Error(ErrorCode::kInternal, "choose_qparams needs a range with equally shaped min and max");
  }
  if (!spec.per_channel && range.min.numel() != 1) {
    throw Error(ErrorCode::kInternal, fmt::format("a per-tensor quantizer got {} ranges", range.min.numel()));
  }
  const auto valid = at::isfinite(range.min) & at::isfinite(range.max) & (range.min <= range.max);
  if (!valid.all().item<bool>()) {
    throw Error(ErrorCode::kCalibration, "the range of a tensor is not finite or its minimum exceeds its maximum", "",
                "check the calibration data and the weights for NaN and infinite values");
  }
}

c10::ScalarType code_type(const QuantizationSpec& spec, int64_t quant_min) {
  if (!spec.dtype) return quant_min < 0 ? c10::kChar : c10::kByte;
  switch (*spec.dtype) {
    case c10::kChar:
    case c10::kQInt8:
      return c10::kChar;
    case c10::kByte:
    case c10::kQUInt8:
      return c10::kByte;
    case c10::kInt:
    case c10::kQInt32:
      return c10::kInt;
    default:
      throw Error(ErrorCode::kInvalidArgument, fmt::format("codes of type {} are not supported", toString(*spec.dtype)),
                  "QuantizationSpec::dtype", "use an 8-bit signed or unsigned integer");
  }
}

Levels full_levels(c10::ScalarType type) {
  if (type == c10::kChar) return {-128, 127};
  if (type == c10::kByte) return {0, 255};
  return {std::numeric_limits<int32_t>::min(), std::numeric_limits<int32_t>::max()};
}

void check_levels(const Levels& levels, c10::ScalarType type) {
  const auto full = full_levels(type);
  if (levels.low >= levels.high || levels.low < full.low || levels.high > full.high) {
    throw Error(
        ErrorCode::kInvalidArgument,
        fmt::format("quant_min {} and quant_max {} are no range of {}", levels.low, levels.high, toString(type)),
        "QuantizationSpec", "give quant_min < quant_max within the type of the codes");
  }
}

QParams make_qparams(const at::Tensor& scale, const at::Tensor& zero_point, const Levels& levels, c10::ScalarType type,
                     const QuantizationSpec& spec, const Range& range) {
  QParams result;
  // The smallest normal float: its reciprocal, which the kernels multiply by, is still finite.
  result.scale = scale.to(at::kFloat).clamp_min(std::numeric_limits<float>::min()).reshape({-1}).contiguous();
  result.zero_point = zero_point.clamp(levels.low, levels.high).to(at::kLong).reshape({-1}).contiguous();
  result.quant_min = levels.low;
  result.quant_max = levels.high;
  result.dtype = type;
  result.per_channel = spec.per_channel;
  result.axis = spec.ch_axis;
  result.range = range;
  return result;
}

/// fake_quantize.py, fix_zero_filters_symmetric and symmetric_range. `levels` counts those of the signed range.
Interval symmetric_interval(const at::Tensor& min, const at::Tensor& max, bool is_signed, int64_t levels, bool narrow) {
  const auto threshold = (max.max() * 0.01).clamp_min(kSmallestMagnitude);
  const auto high = at::maximum(threshold, max);
  if (!is_signed) return {at::zeros_like(high), high};
  const double factor = narrow ? 1.0 : static_cast<double>(levels) / static_cast<double>(levels - 2);
  return {-high * factor, high};
}

/// fake_quantize.py, fix_zero_filters_asymmetric, include zero and tune_range: moves one border outwards so that zero
/// falls on a level.
Interval asymmetric_interval(const at::Tensor& min, const at::Tensor& max, int64_t num_bits) {
  const auto range = max - min;
  const auto correction =
      at::where(range > kSmallestWidth, at::zeros_like(range), at::full_like(range, kSmallestWidth));
  const auto left = (min - correction).clamp_max(0.0);
  const auto right = (max + correction).clamp_min(0.0);

  const double top = static_cast<double>((1 << num_bits) - 1);
  const auto code = at::round(-left * ((right - left).reciprocal() * top));
  const auto moved_left = at::where(code < top, code / (code - top) * right, left);
  const auto moved_right = at::where(code > 0.0, (code - top) / code * left, right);
  const auto keep_right = (right - moved_left) > (moved_right - left);
  return {at::where(keep_right, moved_left, left), at::where(keep_right, right, moved_right)};
}

bool is_signed_range(const at::Tensor& min, const QuantizationSpec& spec) {
  if (spec.signedness_to_force) return *spec.signedness_to_force;
  return (min < 0).any().item<bool>();
}

Interval nncf_symmetric(const at::Tensor& min, at::Tensor max, bool is_signed, const QuantizationSpec& spec) {
  // NNCF's own statistics already hold the largest magnitude; the torch.ao observers hold the plain maximum.
  if (spec.observer != ObserverKind::kDefault) max = at::maximum(max, -min);
  max = max.clamp_min(0.0);
  const int64_t levels = (int64_t{1} << spec.num_bits) - (spec.narrow_range ? 1 : 0);
  if (!spec.half_range) return symmetric_interval(min, max, is_signed, levels, spec.narrow_range);
  const int64_t half = int64_t{1} << (spec.num_bits - 1);
  if (is_signed && !spec.narrow_range) {
    // NNCF stretches an interval of 7 bits to 8 bits, which moves zero half a level away from level 0 (its tables force
    // such weights to be narrow, so it never happens there). The scale is NNCF's, the borders are where zero stays
    // zero.
    const auto step = symmetric_interval(min, max, is_signed, half, true).high / static_cast<double>(half / 2 - 1);
    return {step * static_cast<double>(-half), step * static_cast<double>(half - 1)};
  }
  auto result = symmetric_interval(min, max, is_signed, half, spec.narrow_range);
  const double factor = static_cast<double>(levels - 1) / static_cast<double>(half - 1);
  return {result.low * factor, result.high * factor};
}

void check_nncf_spec(const QuantizationSpec& spec, PointKind kind) {
  if (spec.num_bits < 2 || spec.num_bits > 8) {
    throw Error(ErrorCode::kInvalidArgument, fmt::format("num_bits is {}", spec.num_bits), "QuantizationSpec::num_bits",
                "use 2 to 8");
  }
  if (spec.half_range &&
      (spec.mode != QuantizationMode::kSymmetric || kind != PointKind::kWeight || spec.num_bits < 3)) {
    throw Error(ErrorCode::kInvalidArgument, "half_range needs a symmetric weight of at least 3 bits",
                "QuantizationSpec::half_range");
  }
}

/// NNCF: calculate_quantizer_parameters, then _create_quantizer of min_max/torch_fx_backend.py.
QParams nncf_qparams(const Range& range, const QuantizationSpec& spec, PointKind kind) {
  check_nncf_spec(spec, kind);
  const auto largest = at::maximum(range.max.abs().max(), range.min.abs().max()).item<double>();
  const auto type = largest > kFloatSafe ? at::kDouble : at::kFloat;
  const auto min = range.min.to(type), max = range.max.to(type);

  const bool symmetric = spec.mode == QuantizationMode::kSymmetric;
  const bool is_signed = symmetric && is_signed_range(min, spec);
  const auto interval =
      symmetric ? nncf_symmetric(min, max, is_signed, spec) : asymmetric_interval(min, max, spec.num_bits);

  const int64_t count = int64_t{1} << spec.num_bits;
  Levels levels = is_signed ? Levels{-count / 2, count / 2 - 1} : Levels{0, count - 1};
  if (spec.narrow_range) (is_signed ? levels.low += 1 : levels.high -= 1);

  const auto width = interval.high - interval.low;
  const auto scale = width / static_cast<double>(levels.high - levels.low);
  const auto zero_point =
      (interval.high * static_cast<double>(levels.low) - interval.low * static_cast<double>(levels.high)) / width;
  return make_qparams(scale, at::round(zero_point), levels, is_signed ? c10::kChar : c10::kByte, spec, range);
}

/// torch.ao: UniformQuantizationObserverBase._calculate_qparams (1.13.1).
QParams torch_ao_qparams(const Range& range, const QuantizationSpec& spec) {
  const auto type = code_type(spec, spec.quant_min.value_or(0));
  const auto full = full_levels(type);
  const Levels levels{spec.quant_min.value_or(full.low), spec.quant_max.value_or(full.high)};
  check_levels(levels, type);

  const auto largest = at::maximum(range.max.abs().max(), range.min.abs().max()).item<double>();
  const auto computed_in = largest > kFloatSafe ? at::kDouble : at::kFloat;
  const auto low = range.min.to(computed_in).clamp_max(0.0), high = range.max.to(computed_in).clamp_min(0.0);
  const double steps = static_cast<double>(levels.high - levels.low);
  const double eps = std::max<double>(spec.eps, std::numeric_limits<float>::min());

  if (spec.mode == QuantizationMode::kSymmetric) {
    const auto scale = (at::maximum(-low, high) / (steps / 2)).clamp_min(eps);
    // Floor division, as Python's //: with explicit limits the middle of [0, 255] is 127.
    const int64_t middle = type == c10::kByte ? (levels.low + levels.high) / 2 : 0;
    return make_qparams(scale, at::full_like(scale, middle), levels, type, spec, range);
  }
  const auto scale = ((high - low) / steps).clamp_min(eps);
  const auto zero_point = static_cast<double>(levels.low) - at::round(low / scale);
  return make_qparams(scale, zero_point, levels, type, spec, range);
}

QParams fixed_qparams(const QuantizationSpec& spec) {
  const int64_t zero = spec.fixed_zero_point.value_or(0);
  const bool is_unsigned = spec.quant_min ? *spec.quant_min >= 0 : !spec.dtype && zero > 127;
  const auto type = code_type(spec, is_unsigned ? 0 : -1);
  const auto full = full_levels(type);
  const Levels levels{spec.quant_min.value_or(full.low), spec.quant_max.value_or(full.high)};
  check_levels(levels, type);
  if (!(*spec.fixed_scale > 0) || *spec.fixed_scale > std::numeric_limits<float>::max() || zero < levels.low ||
      zero > levels.high) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("fixed scale {} and zero point {} are not usable", *spec.fixed_scale, zero),
                "QuantizationSpec", "the scale must be positive and finite, the zero point one of the codes");
  }
  const auto scale = at::full({1}, *spec.fixed_scale, at::kFloat);
  const auto zero_point = at::full({1}, zero, at::kLong);
  auto result = make_qparams(scale, zero_point, levels, type, spec, {});
  result.per_channel = false;
  result.range = {(levels.low - zero_point) * scale, (levels.high - zero_point) * scale};
  return result;
}

c10::ScalarType quantized_type(c10::ScalarType codes) {
  switch (codes) {
    case c10::kChar:
      return c10::kQInt8;
    case c10::kByte:
      return c10::kQUInt8;
    case c10::kInt:
      return c10::kQInt32;
    default:
      throw Error(ErrorCode::kInternal, fmt::format("{} is no type of quantized codes", toString(codes)));
  }
}

}  // namespace

QParams choose_qparams(const Range& range, const QuantizationSpec& spec, PointKind kind) {
  if (spec.fixed_scale) return fixed_qparams(spec);
  check_range(range, spec);
  if (spec.destination_type) return fp8_qparams(range, spec);
  if (spec.quant_min || spec.quant_max) return torch_ao_qparams(range, spec);
  return nncf_qparams(range, spec, kind);
}

bool has_smallest_scale(const QParams& q, const QuantizationSpec& spec) {
  if (spec.fixed_scale || spec.destination_type || !q.range.min.defined()) return false;
  const auto low = q.range.min.to(at::kDouble), high = q.range.max.to(at::kDouble);
  const bool by_levels = spec.quant_min || spec.quant_max;
  if (by_levels) return (q.scale.to(at::kDouble) <= spec.eps).all().item<bool>();
  if (spec.mode == QuantizationMode::kSymmetric) {
    return (at::maximum(high, -low) <= kSmallestMagnitude).all().item<bool>();
  }
  return (high - low <= kSmallestWidth).all().item<bool>();
}

at::Tensor channels_without_negative_side(const QParams& q, const QuantizationSpec& spec) {
  const bool upper_only = spec.mode == QuantizationMode::kSymmetric && spec.observer == ObserverKind::kDefault &&
                          !spec.fixed_scale && !spec.destination_type && !spec.quant_min && !spec.quant_max;
  if (!upper_only || !q.range.min.defined()) return at::empty({0}, at::kLong);
  const auto covered = q.scale.to(at::kDouble) * static_cast<double>(q.quant_max);
  return (-q.range.min.to(at::kDouble).reshape({-1}) > covered * 2).nonzero().reshape({-1});
}

// Both directions run LibTorch's own kernels, so that stored codes equal what the reference form computes at run time.
at::Tensor quantize(const at::Tensor& x, const QParams& q) {
  if (q.destination_type) return quantize_to_fp8(x, q);
  const auto type = quantized_type(q.dtype);
  const auto values = x.to(at::kFloat);
  const auto quantized =
      q.per_channel ? at::quantize_per_channel(values, q.scale, q.zero_point, q.axis, type)
                    : at::quantize_per_tensor(values, q.scale.item<double>(), q.zero_point.item<int64_t>(), type);
  const auto codes = quantized.int_repr();
  const auto full = full_levels(q.dtype);
  return q.quant_min > full.low || q.quant_max < full.high ? codes.clamp(q.quant_min, q.quant_max) : codes;
}

at::Tensor dequantize(const at::Tensor& codes, const QParams& q) {
  if (q.destination_type) return dequantize_from_fp8(codes, q);
  const auto values = codes.to(q.dtype).contiguous();
  if (q.per_channel) {
    return at::_make_per_channel_quantized_tensor(values, q.scale, q.zero_point, q.axis).dequantize();
  }
  return at::_make_per_tensor_quantized_tensor(values, q.scale.item<double>(), q.zero_point.item<int64_t>())
      .dequantize();
}

}  // namespace tsquant

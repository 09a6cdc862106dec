#include "tsquant/quantization_spec.h"

#include <fmt/format.h>

#include "numerics/codec.h"
#include "tsquant/error.h"

namespace tsquant {

namespace {

[[noreturn]] void refuse(const std::string& message, const std::string& place, const std::string& advice = "") {
  throw Error(ErrorCode::kInvalidArgument, message, place, advice);
}

void check_codes(const QuantizationSpec& spec, const std::string& place) {
  if (spec.quant_min.has_value() != spec.quant_max.has_value()) {
    refuse("only one of quant_min and quant_max is set", place, "set both or none");
  }
  if (spec.quant_min && *spec.quant_min >= *spec.quant_max) {
    refuse(fmt::format("quant_min {} is not below quant_max {}", *spec.quant_min, *spec.quant_max), place);
  }
  if (spec.fixed_zero_point && !spec.fixed_scale) {
    refuse("fixed_zero_point needs a fixed_scale", place, "set both or none");
  }
  if (spec.fixed_scale && !(*spec.fixed_scale > 0)) refuse("fixed_scale must be positive", place);
  if (!format_info(spec.format).integer && (spec.dtype || spec.quant_min || spec.fixed_scale)) {
    refuse(fmt::format("the format {} cannot be combined with dtype, quant_min, quant_max or fixed parameters",
                       to_string(spec.format)),
           place, "leave the fields of integer codes unset");
  }
}

void check_groups(const QuantizationSpec& spec, PointKind kind, const std::string& place) {
  const FormatInfo& info = format_info(spec.format);
  if (spec.group_size < 0) {
    refuse(fmt::format("group_size is {}", spec.group_size), place, "give a positive number, or 0 for no groups");
  }
  if (spec.group_size > 0 && kind != PointKind::kWeight) {
    refuse("group_size is set for an activation", place, "only weights have groups");
  }
  if (spec.group_size > 0 && spec.fixed_scale) refuse("fixed parameters have no groups", place, "set group_size to 0");
  if (info.group_size != 0 && spec.group_size != info.group_size) {
    refuse(fmt::format("group_size is {}, but a scale of {} is for {} values", spec.group_size, info.name,
                       info.group_size),
           place, fmt::format("set group_size to {}", info.group_size));
  }
}

void check_levels(const QuantizationSpec& spec, const std::string& place) {
  const FormatInfo& info = format_info(spec.format);
  if (has_codebook(spec.format)) return check_codebook(spec.codebook, info.bits);
  if (!spec.codebook.empty()) {
    refuse(fmt::format("a codebook is given for the format {}", info.name), place, "choose codebook4 or codebook8");
  }
}

void check_dynamic(const QuantizationSpec& spec, PointKind kind, const std::string& place) {
  if (!spec.is_dynamic) return;
  const bool asymmetric = spec.mode == QuantizationScheme::kAsymmetric && spec.dtype &&
                          (*spec.dtype == c10::kByte || *spec.dtype == c10::kChar);
  if (kind == PointKind::kWeight || spec.per_channel || spec.fixed_scale || !asymmetric) {
    refuse("parameters are computed at run time for asymmetric 8-bit activations per tensor only", place,
           "set is_dynamic to false, or mode to kAsymmetric and dtype to kByte or kChar");
  }
  const int64_t lowest = *spec.dtype == c10::kByte ? 0 : -128,
                width = spec.quant_min ? *spec.quant_max - *spec.quant_min : 255;
  const bool whole = width == 255 && spec.quant_min.value_or(lowest) == lowest;
  const bool half = width == 127 && *spec.quant_min == lowest / 2;
  if (!whole && !half) {
    refuse(fmt::format("codes from {} to {} cannot be computed at run time", *spec.quant_min, *spec.quant_max), place,
           "use all codes of the dtype, or half of them ([0, 127] and [-64, 63])");
  }
}

void check_float_zero_point(const QuantizationSpec& spec, PointKind kind, const std::string& place) {
  if (!spec.float_zero_point) return;
  const bool is_unsigned = !spec.dtype || *spec.dtype == c10::kByte || *spec.dtype == c10::kQUInt8;
  const bool fits = kind == PointKind::kWeight && spec.formula == QParamsFormula::kTorchAo && spec.per_channel &&
                    spec.mode == QuantizationScheme::kAsymmetric && format_info(spec.format).integer && is_unsigned &&
                    spec.group_size == 0 && !spec.fixed_scale;
  if (fits && spec.quant_min.value_or(0) >= 0) return;
  refuse("floating-point zero points are for weights per channel with unsigned codes", place,
         "set formula to kTorchAo, mode to kAsymmetric, per_channel, and dtype to kByte, or float_zero_point to false");
}

void check_half(const QuantizationSpec& spec, PointKind kind, const std::string& place) {
  if (spec.dtype != c10::kHalf) return;
  if (kind == PointKind::kWeight && !spec.per_channel && spec.group_size == 0 && !spec.quant_min && !spec.fixed_scale) {
    return;
  }
  refuse("float16 is for weights, and has no scales", place,
         "leave per_channel, group_size, quant_min, quant_max and fixed_scale unset, or choose another dtype");
}

void check_limits(const QuantizationSpec& spec, PointKind kind, const std::string& place) {
  if (!spec.limits_of_observer || (kind == PointKind::kActivation && spec.quant_min && !spec.is_dynamic)) return;
  refuse("limits_of_observer is for activations with quant_min and quant_max, not dynamic ones", place,
         "set quant_min and quant_max, or leave it false");
}

void check_formula(const QuantizationSpec& spec, PointKind kind, const std::string& place) {
  if (spec.formula != QParamsFormula::kNncfCompression) return;
  if (kind != PointKind::kWeight) refuse("the formula of nncf.compress_weights is for weights", place);
  if (spec.narrow_range || spec.half_range || spec.dtype || spec.quant_min || spec.fixed_scale) {
    refuse("the formula of nncf.compress_weights uses all codes of the format and no fixed scale", place,
           "leave narrow_range, half_range, dtype, quant_min and fixed_scale unset, or choose another formula");
  }
}

}  // namespace

bool operator==(const QuantizationSpec& a, const QuantizationSpec& b) {
  return a.format == b.format && a.mode == b.mode && a.signedness_to_force == b.signedness_to_force &&
         a.per_channel == b.per_channel && a.ch_axis == b.ch_axis && a.narrow_range == b.narrow_range &&
         a.half_range == b.half_range && a.group_size == b.group_size && a.group_axis == b.group_axis &&
         a.codebook == b.codebook && a.formula == b.formula && a.dtype == b.dtype && a.quant_min == b.quant_min &&
         a.quant_max == b.quant_max && a.eps == b.eps && a.observer == b.observer && a.fixed_scale == b.fixed_scale &&
         a.fixed_zero_point == b.fixed_zero_point && a.averaging_constant == b.averaging_constant &&
         a.histogram_rule == b.histogram_rule && a.fake_quantize == b.fake_quantize && a.is_dynamic == b.is_dynamic &&
         a.float_zero_point == b.float_zero_point && a.limits_of_observer == b.limits_of_observer;
}

void check_spec(const QuantizationSpec& spec, PointKind kind, const std::string& place) {
  check_codes(spec, place);
  check_groups(spec, kind, place);
  check_levels(spec, place);
  check_formula(spec, kind, place);
  check_dynamic(spec, kind, place);
  check_float_zero_point(spec, kind, place);
  check_half(spec, kind, place);
  check_limits(spec, kind, place);
  if (spec.per_channel && spec.ch_axis < 0) {
    refuse(fmt::format("ch_axis is {}", spec.ch_axis), place, "count axes from 0");
  }
  if (spec.half_range && (spec.mode != QuantizationScheme::kSymmetric || kind != PointKind::kWeight ||
                          format_info(spec.format).bits < 3 || spec.quant_min || spec.dtype)) {
    refuse("half_range needs a symmetric weight of at least 3 bits without dtype, quant_min and quant_max", place);
  }
}

}  // namespace tsquant

#include "numerics/qparams.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <limits>

#include "numerics/formulas.h"
#include "numerics/row_loops.h"
#include "tsquant/error.h"

namespace tsquant {

namespace {

bool is_usable(const Range& range) {
  if (range.min.scalar_type() == at::kFloat && range.max.scalar_type() == at::kFloat) {
    const auto low = range.min.contiguous(), high = range.max.contiguous();
    return are_ranges(low.data_ptr<float>(), high.data_ptr<float>(), low.numel());
  }
  return (at::isfinite(range.min) & at::isfinite(range.max) & (range.min <= range.max)).all().item<bool>();
}

void check_range(const Range& range, const QuantizationSpec& spec) {
  if (!range.min.defined() || !range.max.defined() || range.min.numel() == 0 ||
      range.min.sizes() != range.max.sizes()) {
    throw Error(ErrorCode::kInternal, "choose_qparams needs a range with equally shaped min and max");
  }
  if (!spec.per_channel && spec.group_size == 0 && range.min.numel() != 1) {
    throw Error(ErrorCode::kInternal, fmt::format("a per-tensor quantizer got {} ranges", range.min.numel()));
  }
  if (!is_usable(range)) {
    throw Error(ErrorCode::kCalibration, "the range of a tensor is not finite or its minimum exceeds its maximum", "",
                "check the calibration data and the weights for NaN and infinite values");
  }
}

QParams fixed_qparams(const QuantizationSpec& spec) {
  const int64_t zero = spec.fixed_zero_point.value_or(0);
  const bool fits_signed = zero < int64_t{1} << (format_info(spec.format).bits - 1);
  const IntegerCodes codes = integer_codes(spec, fits_signed);
  if (*spec.fixed_scale > std::numeric_limits<float>::max() || zero < codes.low || zero > codes.high) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("fixed scale {} and zero point {} are not usable", *spec.fixed_scale, zero),
                "QuantizationSpec", "the scale must be positive and finite, the zero point one of the codes");
  }
  const auto scale = at::full({1}, *spec.fixed_scale, at::kFloat);
  const auto zero_point = at::full({1}, zero, at::kLong);
  auto result = integer_qparams(scale, zero_point, codes, spec, {});
  result.per_channel = false;
  result.range = {(codes.low - zero_point) * scale, (codes.high - zero_point) * scale};
  return result;
}

QParams dynamic_qparams(const QuantizationSpec& spec) {
  auto result = integer_qparams(at::ones({1}, at::kFloat), at::zeros({1}, at::kLong),
                                integer_codes(spec, *spec.dtype == c10::kChar), spec, {});
  result.is_dynamic = true;
  result.eps = spec.eps;
  return result;
}

QParams half_qparams(const QuantizationSpec& spec, const Range& range) {
  QParams result = empty_qparams(spec, range);
  result.scale = at::ones({1}, at::kFloat);
  result.zero_point = at::zeros({1}, at::kLong);
  result.quant_min = result.quant_max = 0;
  result.dtype = c10::kHalf;
  return result;
}

}  // namespace

QParams choose_qparams(const Range& range, const QuantizationSpec& spec, PointKind kind,
                       const c10::optional<float>& tolerated) {
  check_spec(spec, kind, "QuantizationSpec");
  if (spec.fixed_scale) return fixed_qparams(spec);
  if (spec.is_dynamic) return dynamic_qparams(spec);
  check_range(range, spec);
  if (spec.dtype == c10::kHalf) return half_qparams(spec, range);
  if (spec.formula == QParamsFormula::kNncfCompression) return compression_qparams(range, spec, tolerated);
  if (!format_info(spec.format).integer) return level_qparams(range, spec);
  return spec.formula == QParamsFormula::kTorchAo ? torch_ao_qparams(range, spec) : nncf_qparams(range, spec);
}

bool has_smallest_scale(const QParams& q, const QuantizationSpec& spec) {
  if (!needs_statistics(spec) || !format_info(spec.format).integer || !q.range.min.defined()) return false;
  const auto low = q.range.min.to(at::kDouble), high = q.range.max.to(at::kDouble);
  if (spec.formula == QParamsFormula::kNncfCompression) {
    return (q.scale.abs() <= std::numeric_limits<float>::epsilon()).all().item<bool>();
  }
  if (spec.formula == QParamsFormula::kTorchAo) return (q.scale.to(at::kDouble) <= spec.eps).all().item<bool>();
  if (spec.mode == QuantizationScheme::kSymmetric) {
    return (at::maximum(high, -low) <= kSmallestMagnitude).all().item<bool>();
  }
  return (high - low <= kSmallestWidth).all().item<bool>();
}

at::Tensor channels_without_negative_side(const QParams& q, const QuantizationSpec& spec) {
  const bool upper_only = spec.mode == QuantizationScheme::kSymmetric && spec.observer == ObserverKind::kDefault &&
                          !spec.fixed_scale && format_info(spec.format).integer &&
                          spec.formula == QParamsFormula::kNncf && spec.group_size == 0;
  if (!upper_only || !q.range.min.defined()) return at::empty({0}, at::kLong);
  const auto covered = q.scale.to(at::kDouble) * static_cast<double>(q.quant_max);
  return (-q.range.min.to(at::kDouble).reshape({-1}) > covered * 2).nonzero().reshape({-1});
}

}  // namespace tsquant

#include "numerics/formulas.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "numerics/scale_format.h"
#include "tsquant/error.h"

namespace tsquant {

namespace {

/// The smallest normal float: its reciprocal, which the kernels multiply by, is still finite.
constexpr float kSmallestScale = std::numeric_limits<float>::min();

bool is_signed_codes(const QuantizationSpec& spec, bool by_default) {
  if (!spec.dtype) return spec.quant_min ? *spec.quant_min < 0 : by_default;
  switch (*spec.dtype) {
    case c10::kChar:
    case c10::kQInt8:
      return true;
    case c10::kByte:
    case c10::kQUInt8:
      return false;
    default:
      throw Error(ErrorCode::kInvalidArgument, fmt::format("codes of type {} are not supported", toString(*spec.dtype)),
                  "QuantizationSpec::dtype", "use an 8-bit signed or unsigned integer");
  }
}

}  // namespace

at::Tensor shaped_parameters(const at::Tensor& x, const QuantizationSpec& spec) {
  return (spec.group_size > 0 ? x : x.reshape({-1})).contiguous();
}

double largest_level(const QuantizationSpec& spec) {
  if (spec.codebook.empty()) return format_info(spec.format).largest;
  return std::max(std::fabs(spec.codebook.front()), std::fabs(spec.codebook.back()));
}

IntegerCodes integer_codes(const QuantizationSpec& spec, bool is_signed) {
  is_signed = is_signed_codes(spec, is_signed);
  const int64_t count = int64_t{1} << format_info(spec.format).bits;
  const int64_t lowest = is_signed ? -count / 2 : 0, highest = lowest + count - 1;
  const IntegerCodes codes{spec.quant_min.value_or(lowest), spec.quant_max.value_or(highest),
                           is_signed ? c10::kChar : c10::kByte};
  if (codes.low < codes.high && codes.low >= lowest && codes.high <= highest) return codes;
  throw Error(ErrorCode::kInvalidArgument,
              fmt::format("quant_min {} and quant_max {} are no range of {} {} codes", codes.low, codes.high,
                          is_signed ? "signed" : "unsigned", to_string(spec.format)),
              "QuantizationSpec", fmt::format("give quant_min < quant_max within [{}, {}]", lowest, highest));
}

c10::ScalarType computed_in(const Range& range) {
  const auto largest = at::maximum(range.max.abs().max(), range.min.abs().max()).item<double>();
  return largest > kFloatSafe ? at::kDouble : at::kFloat;
}

QParams empty_qparams(const QuantizationSpec& spec, const Range& range) {
  QParams result;
  result.format = spec.format;
  result.formula = spec.formula;
  result.per_channel = spec.per_channel && spec.group_size == 0;
  result.axis = spec.ch_axis;
  result.group_size = spec.group_size;
  result.group_axis = spec.group_axis;
  result.codebook = spec.codebook;
  result.range = range;
  return result;
}

QParams integer_qparams(const at::Tensor& scale, const at::Tensor& zero_point, const IntegerCodes& codes,
                        const QuantizationSpec& spec, const Range& range) {
  QParams result = empty_qparams(spec, range);
  result.scale = shaped_parameters(scale.to(at::kFloat).clamp_min(kSmallestScale), spec);
  result.zero_point = shaped_parameters(zero_point.clamp(codes.low, codes.high).to(at::kLong), spec);
  result.quant_min = codes.low;
  result.quant_max = codes.high;
  result.dtype = codes.dtype;
  return result;
}

QParams level_qparams(const Range& range, const QuantizationSpec& spec) {
  const FormatInfo& info = format_info(spec.format);
  const bool nncf = spec.formula == QParamsFormula::kNncf;
  const bool is_fp8 = spec.format == Format::kF8E4M3 || spec.format == Format::kF8E5M2;
  const bool halved = nncf && is_fp8 && !spec.per_channel && spec.group_size == 0;
  const double eps = nncf ? std::numeric_limits<float>::epsilon() : 0;
  const auto limit = at::maximum(range.max, range.min.abs() + eps).to(at::kFloat);
  QParams result = empty_qparams(spec, range);
  result.dtype = c10::kByte;
  result.quant_min = 0;
  result.quant_max = 255;
  const double largest = largest_level(spec);
  // limit / largest underflows only for ranges below the smallest normal float times 57344.
  const auto scale = shaped_parameters((limit / (halved ? 0.5 * largest : largest)).clamp_min(kSmallestScale), spec);
  const auto stored = store_scale(scale, info.scale);
  // E4M3 has no positive number below 2^-9.
  result.scale = info.scale == ScaleFormat::kE4M3 ? stored.scale.clamp_min(std::ldexp(1.0F, -9)) : stored.scale;
  result.tensor_scale = stored.tensor_scale;
  result.zero_point = at::zeros(result.scale.sizes(), at::kLong);
  return result;
}

}  // namespace tsquant

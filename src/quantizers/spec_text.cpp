#include "quantizers/spec_text.h"

#include <fmt/format.h>

namespace tsquant {

namespace {

std::string integer_text(const QuantizationSpec& spec) {
  const char* mode = spec.mode == QuantizationScheme::kSymmetric ? "symmetric" : "asymmetric";
  std::string codes = fmt::format("{} bits", format_info(spec.format).bits);
  if (spec.dtype) codes = c10::toString(*spec.dtype);
  if (spec.quant_min && spec.quant_max) codes += fmt::format(" [{}, {}]", *spec.quant_min, *spec.quant_max);
  if (spec.signedness_to_force) codes += *spec.signedness_to_force ? " signed" : " unsigned";
  std::string text = codes + " " + mode;
  if (spec.narrow_range) text += ", narrow range";
  if (spec.half_range) text += ", half range";
  return text;
}

}  // namespace

std::string spec_text(const QuantizationSpec& spec) {
  std::string text = format_info(spec.format).integer ? integer_text(spec) : to_string(spec.format);
  if (spec.group_size > 0) {
    text += fmt::format(", groups of {} (axis {})", spec.group_size, spec.group_axis);
  } else if (spec.per_channel) {
    text += fmt::format(", per channel (axis {})", spec.ch_axis);
  }
  if (spec.float_zero_point) text += ", floating-point zero points";
  if (spec.is_dynamic) text += ", at run time";
  if (spec.fixed_scale) {
    text += fmt::format(", fixed scale {} and zero point {}", *spec.fixed_scale, spec.fixed_zero_point.value_or(0));
  }
  return text;
}

}  // namespace tsquant

#pragma once

#include <cmath>
#include <cstdint>
#include <limits>

namespace tsquant::fp8 {

/// One-byte floating-point formats (Micikevicius et al., "FP8 Formats for Deep Learning", 2022): sign, exponent bits,
/// mantissa bits. Values beyond `highest` saturate; NaN stays NaN.
struct Format {
  int mantissa_bits;
  int bias;
  float highest;
  uint8_t nan;
};

constexpr Format kE4M3{3, 7, 448.0F, 0x7F};
constexpr Format kE5M2{2, 15, 57344.0F, 0x7F};

/// The nearest value of the format, ties to the even mantissa.
inline uint8_t encode(float value, const Format& format) {
  const uint8_t sign = std::signbit(value) ? 0x80 : 0;
  if (std::isnan(value)) return sign | format.nan;
  const float magnitude = std::fmin(std::fabs(value), format.highest);
  if (magnitude == 0) return sign;
  // Below the smallest normal exponent all values share one step.
  const int lowest = 1 - format.bias;
  const int exponent = std::ilogb(magnitude) < lowest ? lowest : std::ilogb(magnitude);
  const bool normal = std::ilogb(magnitude) >= lowest;
  const int steps = static_cast<int>(std::nearbyint(std::ldexp(magnitude, format.mantissa_bits - exponent)));
  // A mantissa that rounds up to the next power of two carries into the exponent field by itself.
  const int code = normal ? ((exponent + format.bias - 1) << format.mantissa_bits) + steps : steps;
  return sign | static_cast<uint8_t>(code);
}

inline float decode(uint8_t code, const Format& format) {
  const int field = (code & 0x7F) >> format.mantissa_bits;
  const int mantissa = code & ((1 << format.mantissa_bits) - 1);
  const float sign = (code & 0x80) != 0 ? -1.0F : 1.0F;
  // E5M2 keeps the highest exponent for infinities and NaN, E4M3 only its last code.
  if (format.mantissa_bits == 2 && field == 0x1F) {
    return mantissa == 0 ? sign * std::numeric_limits<float>::infinity() : std::numeric_limits<float>::quiet_NaN();
  }
  if (format.mantissa_bits == 3 && (code & 0x7F) == 0x7F) return std::numeric_limits<float>::quiet_NaN();
  if (field == 0) return sign * std::ldexp(static_cast<float>(mantissa), 1 - format.bias - format.mantissa_bits);
  return sign * std::ldexp(static_cast<float>((1 << format.mantissa_bits) + mantissa),
                           field - format.bias - format.mantissa_bits);
}

}  // namespace tsquant::fp8

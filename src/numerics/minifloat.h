#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

namespace tsquant {

/// A floating-point format of at most one byte: sign, exponent bits, mantissa bits. The exponent field 0 holds zero and
/// the subnormals, as in IEEE 754.
struct Minifloat {
  int exponent_bits, mantissa_bits, bias;
  float highest;  ///< beyond it values saturate
  int nan;        ///< the positive code of NaN; -1: there is none, and NaN becomes zero
  bool has_infinities;

  int sign_bit() const { return 1 << (exponent_bits + mantissa_bits); }
};

/// Micikevicius et al., "FP8 Formats for Deep Learning", 2022, and the OCP Microscaling Formats (MX) Specification 1.0.
inline constexpr Minifloat kE4M3{4, 3, 7, 448.0F, 0x7F, false};
inline constexpr Minifloat kE5M2{5, 2, 15, 57344.0F, 0x7F, true};
inline constexpr Minifloat kE2M1{2, 1, 1, 6.0F, -1, false};

/// 2^exponent, for exponents of normal numbers.
inline float power_of_two(int exponent) {
  const uint32_t bits = static_cast<uint32_t>(exponent + 127) << 23;
  float value = 0;
  std::memcpy(&value, &bits, sizeof(value));
  return value;
}

/// The code of the nearest value, ties to the even mantissa.
inline uint8_t encode(float value, const Minifloat& format) {
  const int sign = std::signbit(value) ? format.sign_bit() : 0;
  if (std::isnan(value)) return static_cast<uint8_t>(format.nan < 0 ? 0 : sign | format.nan);
  const float magnitude = std::fmin(std::fabs(value), format.highest);
  // Below the smallest normal number all values share one step.
  if (magnitude < power_of_two(1 - format.bias)) {
    const float steps = magnitude * power_of_two(format.bias - 1 + format.mantissa_bits);
    return static_cast<uint8_t>(sign | static_cast<int>(std::nearbyint(steps)));
  }
  // Rounds the float's mantissa; one that rounds up to the next power of two carries into the exponent by itself.
  uint32_t bits = 0;
  std::memcpy(&bits, &magnitude, sizeof(bits));
  const int dropped = 23 - format.mantissa_bits;
  bits += (1U << (dropped - 1)) - 1 + ((bits >> dropped) & 1U);
  return static_cast<uint8_t>(sign |
                              static_cast<int>((bits >> dropped) - ((127U - format.bias) << format.mantissa_bits)));
}

inline float decode(uint8_t code, const Minifloat& format) {
  const int field = (code & (format.sign_bit() - 1)) >> format.mantissa_bits;
  const int mantissa = code & ((1 << format.mantissa_bits) - 1);
  const float sign = (code & format.sign_bit()) != 0 ? -1.0F : 1.0F;
  const bool last_field = field == (1 << format.exponent_bits) - 1;
  if (format.has_infinities && last_field) {
    return mantissa == 0 ? sign * std::numeric_limits<float>::infinity() : std::numeric_limits<float>::quiet_NaN();
  }
  if ((code & (format.sign_bit() - 1)) == format.nan) return std::numeric_limits<float>::quiet_NaN();
  if (field == 0) return sign * std::ldexp(static_cast<float>(mantissa), 1 - format.bias - format.mantissa_bits);
  return sign * std::ldexp(static_cast<float>((1 << format.mantissa_bits) + mantissa),
                           field - format.bias - format.mantissa_bits);
}

}  // namespace tsquant

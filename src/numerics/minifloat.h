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

inline uint32_t bits_of(float value) {
  uint32_t bits = 0;
  std::memcpy(&bits, &value, sizeof(bits));
  return bits;
}

inline float float_of(uint32_t bits) {
  float value = 0;
  std::memcpy(&value, &bits, sizeof(value));
  return value;
}

/// The code of the nearest value, ties to the even mantissa. Works on the bits of float32, so that compilers make
/// vector code of loops over it.
inline uint8_t encode(float value, const Minifloat& format) {
  const uint32_t bits = bits_of(value), positive = bits & 0x7FFFFFFFU, highest = bits_of(format.highest);
  const uint32_t magnitude = positive < highest ? positive : highest;
  const uint32_t sign = (bits >> 31) * static_cast<uint32_t>(format.sign_bit());
  // Rounds the mantissa; one that rounds up to the next power of two carries into the exponent by itself.
  const int dropped = 23 - format.mantissa_bits;
  const uint32_t rounded = magnitude + (1U << (dropped - 1)) - 1 + ((magnitude >> dropped) & 1U);
  const uint32_t normal = (rounded >> dropped) - (static_cast<uint32_t>(127 - format.bias) << format.mantissa_bits);
  // Below the smallest normal number all values share one step; adding 1.5 * 2^23 rounds to a whole number of them.
  const float steps_in_one = float_of(static_cast<uint32_t>(126 + format.bias + format.mantissa_bits) << 23);
  constexpr float kRounder = 12582912.0F;
  const uint32_t subnormal = bits_of(float_of(magnitude) * steps_in_one + kRounder) - bits_of(kRounder);
  const bool is_normal = magnitude >= static_cast<uint32_t>(128 - format.bias) << 23;
  const uint32_t nan = format.nan < 0 ? 0 : sign | static_cast<uint32_t>(format.nan);
  return static_cast<uint8_t>(positive > 0x7F800000U ? nan : sign | (is_normal ? normal : subnormal));
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

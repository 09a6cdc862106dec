#include "numerics/codec.h"

#include <cmath>
#include <limits>

namespace tsquant {

IntegerCodec::IntegerCodec(int bits, bool is_signed) : is_signed_(is_signed) {
  const int count = 1 << bits;
  low_ = static_cast<float>(is_signed ? -count / 2 : 0);
  high_ = static_cast<float>(is_signed ? count / 2 - 1 : count - 1);
}

void IntegerCodec::encode(const float* x, int64_t n, uint8_t* codes) const {
  for (int64_t i = 0; i < n; ++i) {
    const float bounded = x[i] > low_ ? (x[i] < high_ ? x[i] : high_) : low_;
    codes[i] = static_cast<uint8_t>(static_cast<int>(std::nearbyint(bounded)));
  }
}

void IntegerCodec::decode(const uint8_t* codes, int64_t n, float* x) const {
  for (int64_t i = 0; i < n; ++i) {
    const float value = is_signed_ ? static_cast<float>(static_cast<int8_t>(codes[i])) : codes[i];
    x[i] = value < low_ || value > high_ ? std::numeric_limits<float>::quiet_NaN() : value;
  }
}

LookupCodec::LookupCodec() { level_of_.fill(std::numeric_limits<float>::quiet_NaN()); }

void LookupCodec::decode(const uint8_t* codes, int64_t n, float* x) const {
  for (int64_t i = 0; i < n; ++i) x[i] = level_of_[codes[i]];
}

MinifloatCodec::MinifloatCodec(const Minifloat& format) : format_(format) {
  for (int code = 0; code < 2 * format.sign_bit(); ++code) {
    level_of_[code] = tsquant::decode(static_cast<uint8_t>(code), format);
  }
}

void MinifloatCodec::encode(const float* x, int64_t n, uint8_t* codes) const {
  for (int64_t i = 0; i < n; ++i) codes[i] = tsquant::encode(x[i], format_);
}

}  // namespace tsquant

#include "numerics/codec.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "tsquant/error.h"

namespace tsquant {

IntegerCodec::IntegerCodec(int bits, bool is_signed) : is_signed_(is_signed) {
  const int count = 1 << bits;
  low_ = static_cast<float>(is_signed ? -count / 2 : 0);
  high_ = static_cast<float>(is_signed ? count / 2 - 1 : count - 1);
}

void IntegerCodec::encode(const float* x, int64_t n, uint8_t* codes) const {
  // Adding and subtracting it rounds to an integer, as std::nearbyint does, without a call.
  constexpr float kRounder = 12582912.0F;
  const float low = low_, high = high_;  // copies: codes could overwrite members
  for (int64_t i = 0; i < n; ++i) {
    const float bounded = x[i] > low ? (x[i] < high ? x[i] : high) : low;
    codes[i] = static_cast<uint8_t>(static_cast<int>((bounded + kRounder) - kRounder));
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
  const Minifloat format = format_;
  for (int64_t i = 0; i < n; ++i) codes[i] = tsquant::encode(x[i], format);
}

LevelCodec::LevelCodec(const LevelTable& table) { set(table.levels, table.codes, static_cast<size_t>(table.count)); }

LevelCodec::LevelCodec(const std::vector<float>& levels, int bits) {
  check_codebook(levels, bits);
  set(levels.data(), nullptr, levels.size());
}

void LevelCodec::set(const float* levels, const uint8_t* codes, size_t count) {
  size_t nearest_zero = 0;
  for (size_t i = 0; i < count; ++i) {
    codes_.push_back(codes ? codes[i] : static_cast<uint8_t>(i));
    level_of_[codes_[i]] = levels[i];
    if (std::fabs(levels[i]) < std::fabs(levels[nearest_zero])) nearest_zero = i;
    if (i > 0) middles_.push_back(static_cast<float>((static_cast<double>(levels[i - 1]) + levels[i]) / 2));
  }
  zero_ = codes_[nearest_zero];
}

void LevelCodec::encode(const float* x, int64_t n, uint8_t* codes) const {
  constexpr size_t kFew = 16;
  if (middles_.size() < kFew) return encode_by_counting(x, n, codes);
  for (int64_t i = 0; i < n; ++i) {
    const auto below = std::lower_bound(middles_.begin(), middles_.end(), x[i]) - middles_.begin();
    codes[i] = std::isnan(x[i]) ? zero_ : codes_[static_cast<size_t>(below)];
  }
}

/// The index of a level is the number of middles below the value; block by block, for vector code.
void LevelCodec::encode_by_counting(const float* x, int64_t n, uint8_t* codes) const {
  constexpr int64_t kBlock = 256;
  std::array<int32_t, kBlock> below;
  for (int64_t begin = 0; begin < n; begin += kBlock) {
    const int64_t size = std::min(kBlock, n - begin);
    const float* block = x + begin;
    below.fill(0);
    for (const float middle : middles_) {
      for (int64_t i = 0; i < size; ++i) below[i] += middle < block[i] ? 1 : 0;
    }
    for (int64_t i = 0; i < size; ++i) codes[begin + i] = std::isnan(block[i]) ? zero_ : codes_[below[i]];
  }
}

void check_codebook(const std::vector<float>& levels, int bits) {
  const auto refuse = [](const std::string& message) {
    throw Error(ErrorCode::kInvalidArgument, message, "codebook", "give finite levels in strictly ascending order");
  };
  const size_t most = size_t{1} << bits;
  if (levels.size() < 2 || levels.size() > most) {
    refuse(fmt::format("a codebook of {} levels, where codes of {} bits number 2 to {}", levels.size(), bits, most));
  }
  for (size_t i = 0; i < levels.size(); ++i) {
    if (!std::isfinite(levels[i])) refuse(fmt::format("level {} of the codebook is {}", i, levels[i]));
    if (i > 0 && levels[i] <= levels[i - 1]) {
      refuse(
          fmt::format("level {} of the codebook, {}, is not above the one before it, {}", i, levels[i], levels[i - 1]));
    }
  }
}

}  // namespace tsquant

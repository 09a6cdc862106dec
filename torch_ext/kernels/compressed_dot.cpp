#include "kernels/compressed_dot.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace tsquant::kernels {

DotFormat::DotFormat() = default;

DotFormat::DotFormat(int bits, LevelKind kind, const float* table) : bits_(bits), kind_(kind), table_(table) {
  if (kind == LevelKind::kSigned || kind == LevelKind::kUnsigned) {
    form_ = DotForm::kFields;
    zero_ = static_cast<float>(1 << (bits - 1));
  } else if (bits == 8) {
    form_ = DotForm::kBytes;
  } else if (!take_integer_levels()) {
    take_levels();
  }
}

/// Levels as bytes: (byte - zero) * unit. False when there are none.
bool DotFormat::take_integer_levels() {
  if (!std::all_of(table_, table_ + 16, [](float level) { return std::isfinite(level); })) return false;
  const auto [least, most] = std::minmax_element(table_, table_ + 16);
  for (float unit = 1; unit >= 0x1p-8F; unit /= 2) {
    const float zero = -*least / unit;
    if ((*most - *least) / unit > 255) return false;
    bool exact = true;
    for (int code = 0; code < 16; ++code) {
      const float byte = table_[code] / unit + zero;
      exact = exact && byte == std::floor(byte) && (byte - zero) * unit == table_[code];
      planes_[0][code] = static_cast<uint8_t>(byte);
    }
    if (!exact) continue;
    form_ = DotForm::kIntegerTable;
    zero_ = zero;
    unit_ = unit;
    return true;
  }
  return false;
}

void DotFormat::take_levels() {
  bool is_short = true;
  for (int code = 0; code < 16; ++code) {
    uint8_t bytes[4];
    std::memcpy(bytes, &table_[code], sizeof(bytes));
    for (int k = 0; k < 4; ++k) planes_[k][code] = bytes[k];
    is_short = is_short && bytes[0] == 0 && bytes[1] == 0;
  }
  form_ = is_short ? DotForm::kShortTable : DotForm::kLongTable;
}

int DotFormat::element_at(int position) const {
  const int field = position / 8, lane = position % 8;
  if (form_ == DotForm::kIntegerTable) return 8 * lane + 2 * (field % 4) + field / 4;
  if (form_ != DotForm::kFields) {
    if (bits_ >= 8) return position;
    return 2 * (lane / 4 * 16 + 4 * (field % 4) + lane % 4) + field / 4;
  }
  if (bits_ == 3) return 16 * lane + field % 8 * 2 + field / 8;  // those of even number first
  return 32 / bits_ * lane + field;
}

float DotFormat::factor_at(int position) const {
  if (!has_zeros()) return 1;
  const int field = position / 8 % 4;
  if (form_ == DotForm::kIntegerTable || bits_ == 8) return field == 3 ? unit_ : std::ldexp(unit_, -8 * field);
  return std::ldexp(1.0F, (bits_ == 2 ? -2 : -4) * field);
}

void arrange_inputs(const DotFormat& format, const float* x, int64_t n, float* arranged) {
  const int64_t step = format.step(), stride = format.arranged_step();
  std::fill_n(arranged, format.arranged(n), 0.0F);
  for (int64_t p = 0; p < step; ++p) {
    const int element = format.element_at(static_cast<int>(p));
    const float factor = format.factor_at(static_cast<int>(p));
    float* to = arranged + p;
    for (int64_t i = element; i < n; i += step, to += stride) *to = x[i] * factor;
  }
  if (!format.has_zeros()) return;
  for (int64_t p = 0; p < step; ++p) {
    const float factor = format.unit() / format.factor_at(static_cast<int>(p));
    for (float* at = arranged; at < arranged + format.arranged(n); at += stride) at[step + p % 8] -= at[p] * factor;
  }
}

}  // namespace tsquant::kernels

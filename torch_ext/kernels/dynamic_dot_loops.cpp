// Highway compiles this file once per instruction set.
#include <algorithm>
#include <cstring>

#include "kernels/dynamic_dot.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/dynamic_dot_loops.cpp"
#include "hwy/foreach_target.h"
// The order matters: foreach_target.h first.
#include "hwy/highway.h"
#include "kernels/byte_products-inl.h"

#ifndef TSQUANT_DYNAMIC_DOT_SHAPE
#define TSQUANT_DYNAMIC_DOT_SHAPE
namespace tsquant::kernels {
namespace {

constexpr int64_t codes_of_step(DotCodes codes) { return kDotBytes * codes_per_byte(codes); }

/// Groups of a step: 2 or 4, or 1 where a group is one step or several.
int64_t groups_of_step(DotCodes codes, int64_t groups, int64_t group_size) {
  const int64_t step = codes_of_step(codes);
  return groups > 1 && (2 * group_size == step || 4 * group_size == step) ? step / group_size : 1;
}

/// Bytes of a row, without the plane of single bits.
int64_t row_bytes(const DotStrip& s) { return s.form == DotCodes::kThreeBits ? s.groups * s.group_size / 4 : s.stride; }

}  // namespace
}  // namespace tsquant::kernels
#endif

HWY_BEFORE_NAMESPACE();
namespace tsquant::kernels {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

#if TSQUANT_BYTE_PRODUCTS
/// Bytes of each row that memory is asked for before they are needed: several rows are read at a time.
constexpr int64_t kCodesAhead = 512;
constexpr int kDotParts = static_cast<int>(kDotBytes / kBytes);

HWY_INLINE VCode low_bits(VCode bytes, int bits) { return hn::And(bytes, hn::Set(DCode(), (1 << bits) - 1)); }

template <int kBits>
HWY_INLINE VCode shifted_right(VCode bytes) {
  return hn::BitCast(DCode(), hn::ShiftRight<kBits>(hn::BitCast(hn::Repartition<uint16_t, DCode>(), bytes)));
}

/// The codes of kBytes bytes of a row: field f holds those that stand at place f of the bytes.
template <DotCodes kForm>
class Fields {
 public:
  /// @param bytes those of the codes @param bits where the third bits of kThreeBits are
  HWY_INLINE Fields(const uint8_t* bytes, const uint8_t* bits) {
    codes_[0] = hn::LoadU(DCode(), bytes);
    if constexpr (kForm == DotCodes::kThreeBits) join(bits);
  }

  template <int kField>
  HWY_INLINE VCode get() const {
    if constexpr (kForm == DotCodes::kThreeBits) {
      const VCode both = codes_[kField % 2];
      return low_bits(kField < 2 ? both : shifted_right<4>(both), 4);
    } else if constexpr (kForm == DotCodes::kQuarters) {
      return low_bits(kField == 0 ? codes_[0] : shifted_right<2 * kField>(codes_[0]), 2);
    } else if constexpr (kForm == DotCodes::kHalves) {
      return low_bits(kField == 0 ? codes_[0] : shifted_right<4>(codes_[0]), 4);
    } else {
      return codes_[0];
    }
  }

 private:
  /// Single bits join pairs of bits, so that half bytes are codes: those of even number in one vector, the others in a
  /// second one. As in compressed_sources-inl.h.
  HWY_INLINE void join(const uint8_t* bits) {
    const DCode d;
    const VCode two = hn::Set(d, 0x33), spread = spread_bits(bits);
    const auto even = hn::BitCast(d, hn::ShiftLeft<2>(hn::BitCast(D16(), hn::And(spread, hn::Set(d, 0x11)))));
    const VCode odd = hn::And(spread, hn::Set(d, 0x44));
    const VCode pairs = codes_[0];
    codes_[0] = hn::Or(hn::And(pairs, two), even);
    codes_[1] = hn::Or(hn::And(shifted_right<2>(pairs), two), odd);
  }

  /// Bit i of a half byte moves to bit 2 * i of a byte.
  static HWY_INLINE VCode spread_bits(const uint8_t* bits) {
    alignas(16) static constexpr uint8_t kSpread[16] = {0x00, 0x01, 0x04, 0x05, 0x10, 0x11, 0x14, 0x15,
                                                        0x40, 0x41, 0x44, 0x45, 0x50, 0x51, 0x54, 0x55};
    const DCode d;
    const hn::Repartition<uint16_t, DCode> d16;
    const auto wide = hn::PromoteTo(d16, hn::LoadU(hn::Rebind<uint8_t, decltype(d16)>(), bits));
    const auto halves = hn::And(hn::Or(wide, hn::ShiftLeft<4>(wide)), hn::Set(d16, 0x0F0F));
    return hn::TableLookupBytes(hn::LoadDup128(d, kSpread), hn::BitCast(d, halves));
  }

  VCode codes_[kForm == DotCodes::kThreeBits ? 2 : 1];
};

/// The inputs of one step, in the order of its fields.
template <DotCodes kForm>
class StepInputs {
 public:
  HWY_INLINE StepInputs(const int8_t* x, int part) {
#pragma GCC unroll 4
    for (int64_t f = 0; f < codes_per_byte(kForm); ++f) {
      x_[f] = hn::LoadU(DCode(), reinterpret_cast<const uint8_t*>(x) + f * kDotBytes + part * kBytes);
    }
  }

  HWY_INLINE V32 add_products(V32 sum, const Fields<kForm>& fields) const {
    if constexpr (kForm == DotCodes::kWide || kForm == DotCodes::kSigned) {
      const VCode bytes = fields.template get<0>();
      sum = add_pairs(sum, wide<kForm == DotCodes::kSigned>(bytes, false), wide<true>(x_[0], false));
      return add_pairs(sum, wide<kForm == DotCodes::kSigned>(bytes, true), wide<true>(x_[0], true));
    } else {
      // Two fields are codes up to 15, four up to 7: sums stay below 7700.
      V16 pairs = byte_pairs(fields.template get<0>(), x_[0]);
      if constexpr (kForm != DotCodes::kBytes) pairs = hn::Add(pairs, byte_pairs(fields.template get<1>(), x_[1]));
      if constexpr (codes_per_byte(kForm) == 4) {
        pairs = hn::Add(pairs, byte_pairs(fields.template get<2>(), x_[2]));
        pairs = hn::Add(pairs, byte_pairs(fields.template get<3>(), x_[3]));
      }
      return add_pairs(sum, pairs);
    }
  }

 private:
  template <bool kHasSign>
  static HWY_INLINE V16 wide(VCode bytes, bool upper) {
    const hn::Half<DCode> half;
    const auto part = upper ? hn::UpperHalf(half, bytes) : hn::LowerHalf(half, bytes);
    if constexpr (kHasSign) return hn::PromoteTo(D16(), hn::BitCast(hn::Rebind<int8_t, decltype(half)>(), part));
    return hn::PromoteTo(D16(), part);
  }

  VCode x_[codes_per_byte(kForm)];
};

/// Four rows of the strip; those behind its last row are the last one again.
class FourRows {
 public:
  HWY_INLINE FourRows(const DotStrip& s, int64_t first)
      : bytes_(row_bytes(s)), next_rows_((s.groups == 1 ? 3 : kDotRows - 1) * s.stride + s.stride - bytes_) {
    for (int64_t r = 0; r < 4; ++r) rows_[r] = s.codes + HWY_MIN(first + r, s.rows - 1) * s.stride;
  }

  /// sums[row][part] = products of some steps, of each vector of them.
  template <DotCodes kForm>
  HWY_INLINE void sum(int64_t step, int64_t steps, const int8_t* x, V32 (&sums)[4][kDotParts]) const {
#pragma GCC unroll 4
    for (int r = 0; r < 4; ++r) {
      for (int part = 0; part < kDotParts; ++part) sums[r][part] = hn::Zero(D32());
    }
    const int64_t end = step + steps, whole = HWY_MIN(end, bytes_ / kDotBytes);
    for (; step < whole; ++step, x += codes_of_step(kForm)) add_step<kForm>(step, x, sums);
    if constexpr (kForm != DotCodes::kThreeBits) {
      if (step < end) add_last<kForm>(step, x, sums);
    }
  }

 private:
  template <DotCodes kForm>
  HWY_INLINE void add_step(int64_t step, const int8_t* x, V32 (&sums)[4][kDotParts]) const {
    const int64_t at = step * kDotBytes;
    const int64_t ahead = at + kCodesAhead + (at + kCodesAhead < bytes_ ? 0 : next_rows_);
#pragma GCC unroll 2
    for (int part = 0; part < kDotParts; ++part) {
      const StepInputs<kForm> inputs(x, part);
#pragma GCC unroll 4
      for (int r = 0; r < 4; ++r) {
        __builtin_prefetch(rows_[r] + ahead);
        const int64_t from = at + part * kBytes;
        const Fields<kForm> fields(rows_[r] + from, rows_[r] + bytes_ + from / 2);
        keep_sum(sums[r][part] = inputs.add_products(sums[r][part], fields));
      }
    }
  }

  /// What is behind a row is not there to be read. Rows of three bits end with a step.
  template <DotCodes kForm>
  HWY_INLINE void add_last(int64_t step, const int8_t* x, V32 (&sums)[4][kDotParts]) const {
    alignas(64) uint8_t last[kDotBytes] = {};
    for (int part = 0; part < kDotParts; ++part) {
      const StepInputs<kForm> inputs(x, part);
      for (int r = 0; r < 4; ++r) {
        std::memcpy(last, rows_[r] + step * kDotBytes, static_cast<size_t>(bytes_ - step * kDotBytes));
        sums[r][part] = inputs.add_products(sums[r][part], Fields<kForm>(last + part * kBytes, nullptr));
      }
    }
  }

  const uint8_t* rows_[4];
  int64_t bytes_;
  int64_t next_rows_;  ///< from the end of one of these rows to the start of the one that is read after it
};

/// Sums of two neighbours each of four rows, by blocks of 128 bits: pairs of even number, and the others.
HWY_INLINE void pair_sums(const V32 (&sums)[4][kDotParts], int part, V32& even, V32& odd) {
#if HWY_TARGET <= HWY_AVX2
  const auto a = _mm256_castsi256_ps(_mm256_hadd_epi32(sums[0][part].raw, sums[1][part].raw));
  const auto b = _mm256_castsi256_ps(_mm256_hadd_epi32(sums[2][part].raw, sums[3][part].raw));
  even = V32{_mm256_castps_si256(_mm256_shuffle_ps(a, b, 0x88))};
  odd = V32{_mm256_castps_si256(_mm256_shuffle_ps(a, b, 0xDD))};
#else
  const auto a = _mm_castsi128_ps(_mm_hadd_epi32(sums[0][part].raw, sums[1][part].raw));
  const auto b = _mm_castsi128_ps(_mm_hadd_epi32(sums[2][part].raw, sums[3][part].raw));
  even = V32{_mm_castps_si128(_mm_shuffle_ps(a, b, 0x88))};
  odd = V32{_mm_castps_si128(_mm_shuffle_ps(a, b, 0xDD))};
#endif
}

/// Sums of the groups of a step for the eight rows of a strip, one in a lane. A step has four quarters of 8 bytes.
class StepSums {
 public:
  HWY_INLINE StepSums(const V32 (&first)[4][kDotParts], const V32 (&last)[4][kDotParts]) {
    for (int part = 0; part < kDotParts; ++part) {
      pair_sums(first, part, first_[0][part], first_[1][part]);
      pair_sums(last, part, last_[0][part], last_[1][part]);
    }
  }

  /// @param part of the lanes
  template <int kGroups>
  HWY_INLINE V32 of_group(int group, int part) const {
    if constexpr (kGroups == 4) {
      return of_half(first_[group % 2], last_[group % 2], group / 2, part);
    } else {
      V32 first[kDotParts], last[kDotParts];
      for (int p = 0; p < kDotParts; ++p) {
        first[p] = hn::Add(first_[0][p], first_[1][p]);
        last[p] = hn::Add(last_[0][p], last_[1][p]);
      }
      if constexpr (kGroups == 2) return of_half(first, last, group, part);
      return hn::Add(of_half(first, last, 0, part), of_half(first, last, 1, part));
    }
  }

 private:
  static HWY_INLINE V32 of_half(const V32 (&first)[kDotParts], const V32 (&last)[kDotParts], int half, int part) {
    if constexpr (kDotParts == 2) {
      return part == 0 ? first[half] : last[half];
    } else {
      return half == 0 ? hn::ConcatLowerLower(D32(), last[0], first[0])
                       : hn::ConcatUpperUpper(D32(), last[0], first[0]);
    }
  }

  V32 first_[2][kDotParts], last_[2][kDotParts];  // of even pairs, of odd ones
};

/// @param kGroups of a step
template <DotCodes kForm, int kGroups>
HWY_NOINLINE void dot_strip(const DotStrip s, const int8_t* x, const float* x_scales, const int32_t* x_sums,
                            float* totals) {
  const DReal d;
  VReal total[kDotParts];
  for (int part = 0; part < kDotParts; ++part) total[part] = hn::Zero(d);
  const int64_t step_codes = codes_of_step(kForm);
  const int64_t steps = kGroups > 1 ? 1 : (s.group_size + step_codes - 1) / step_codes;
  const FourRows first(s, 0), last(s, 4);
  int64_t step = 0;
  for (int64_t group = 0; group < s.groups; group += kGroups, step += steps, x += steps * step_codes) {
    V32 of_first[4][kDotParts], of_last[4][kDotParts];
    first.template sum<kForm>(step, steps, x, of_first);
    last.template sum<kForm>(step, steps, x, of_last);
    const StepSums sums(of_first, of_last);
#pragma GCC unroll 4
    for (int g = 0; g < kGroups; ++g) {
      if (group + g >= s.groups) break;
      const V32 input_sum = hn::Set(D32(), x_sums[group + g]);
      const VReal input_scale = hn::Set(d, x_scales[group + g]);
      for (int part = 0; part < kDotParts; ++part) {
        const int64_t at = (group + g) * kDotRows + part * kWords;
        total[part] = add_group(total[part], sums.template of_group<kGroups>(g, part), s.zeros + at, s.scales + at,
                                input_sum, input_scale);
      }
    }
  }
  for (int part = 0; part < kDotParts; ++part) hn::StoreU(total[part], d, totals + part * kWords);
}

/// @param kMostGroups of a step
template <DotCodes kForm, int kMostGroups>
void dot_form(const DotStrip& s, const int8_t* x, const float* x_scales, const int32_t* x_sums, float* totals) {
  const int64_t groups = groups_of_step(kForm, s.groups, s.group_size);
  if constexpr (kMostGroups >= 4) {
    if (groups == 4) return dot_strip<kForm, 4>(s, x, x_scales, x_sums, totals);
  }
  if constexpr (kMostGroups >= 2) {
    if (groups == 2) return dot_strip<kForm, 2>(s, x, x_scales, x_sums, totals);
  }
  dot_strip<kForm, 1>(s, x, x_scales, x_sums, totals);
}

void dynamic_dot_target(const DotStrip& s, const int8_t* x, const float* x_scales, const int32_t* x_sums,
                        float* totals) {
  switch (s.form) {
    case DotCodes::kQuarters:
      return dot_form<DotCodes::kQuarters, 4>(s, x, x_scales, x_sums, totals);
    case DotCodes::kThreeBits:
      return dot_form<DotCodes::kThreeBits, 4>(s, x, x_scales, x_sums, totals);
    case DotCodes::kHalves:
      return dot_form<DotCodes::kHalves, 4>(s, x, x_scales, x_sums, totals);
    case DotCodes::kBytes:
      return dot_form<DotCodes::kBytes, 4>(s, x, x_scales, x_sums, totals);
    case DotCodes::kSigned:
      return dot_form<DotCodes::kSigned, 1>(s, x, x_scales, x_sums, totals);
    default:
      return dot_form<DotCodes::kWide, 1>(s, x, x_scales, x_sums, totals);
  }
}

#else

int32_t code_of(const DotStrip& s, int64_t row, int64_t i) {
  const int64_t fields = codes_per_byte(s.form), bits = 8 / fields;
  const uint8_t byte = s.codes[row * s.stride + i / fields];
  if (s.form == DotCodes::kSigned) return static_cast<int8_t>(byte);
  const int32_t code = byte >> (i % fields * bits) & ((1 << bits) - 1);
  if (s.form != DotCodes::kThreeBits) return code;
  return code | (s.codes[row * s.stride + row_bytes(s) + i / 8] >> (i % 8) & 1) << 2;
}

void dynamic_dot_target(const DotStrip& s, const int8_t* x, const float* x_scales, const int32_t* x_sums,
                        float* totals) {
  const int64_t fields = codes_per_byte(s.form), step = codes_of_step(s.form);
  std::fill_n(totals, kDotRows, 0.0F);
  for (int64_t row = 0; row < s.rows; ++row) {
    for (int64_t group = 0; group < s.groups; ++group) {
      int32_t sum = 0;
      for (int64_t i = group * s.group_size; i < (group + 1) * s.group_size; ++i) {
        sum += code_of(s, row, i) * x[i / step * step + i % fields * kDotBytes + i / fields % kDotBytes];
      }
      const int64_t at = group * kDotRows + row;
      totals[row] = add_group(totals[row], sum, s.zeros[at], s.scales[at], x_sums[group], x_scales[group]);
    }
  }
}
#endif

}  // namespace HWY_NAMESPACE
}  // namespace tsquant::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE

namespace tsquant::kernels {

HWY_EXPORT(dynamic_dot_target);

bool supports_dot(DotCodes codes, int64_t groups, int64_t group_size) {
  const int64_t step = codes_of_step(codes);
  if (codes == DotCodes::kThreeBits && groups * group_size % step != 0) return false;
  if (groups == 1 || group_size % step == 0) return true;
  // Codes that are widened go into sums of all quarters of a step.
  return codes != DotCodes::kWide && codes != DotCodes::kSigned && groups_of_step(codes, groups, group_size) > 1;
}

int64_t arranged_size(DotCodes codes, int64_t n) {
  const int64_t step = codes_of_step(codes);
  return (n + step - 1) / step * step;
}

void arrange_codes(DotCodes codes, const int8_t* x, int64_t n, int8_t* arranged) {
  const int64_t fields = codes_per_byte(codes), step = codes_of_step(codes);
  if (fields == 1) {
    std::copy_n(x, n, arranged);
    std::fill(arranged + n, arranged + arranged_size(codes, n), int8_t{0});
    return;
  }
  std::fill_n(arranged, arranged_size(codes, n), int8_t{0});
  for (int64_t begin = 0; begin < n; begin += step) {
    const int64_t count = std::min(step, n - begin);
    for (int64_t field = 0; field < fields; ++field) {
      int8_t* to = arranged + begin + field * kDotBytes;
      for (int64_t i = field; i < count; i += fields) *to++ = x[begin + i];
    }
  }
}

void dynamic_dot(const DotStrip& strip, const int8_t* x, const float* scales, const int32_t* sums, float* totals) {
  HWY_DYNAMIC_DISPATCH(dynamic_dot_target)(strip, x, scales, sums, totals);
}

}  // namespace tsquant::kernels
#endif  // HWY_ONCE

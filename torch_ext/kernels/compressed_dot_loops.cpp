// Highway compiles this file once per instruction set.
#include <algorithm>
#include <cstring>

#include "kernels/compressed_dot.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/compressed_dot_loops.cpp"
#include "hwy/foreach_target.h"
// The order matters: foreach_target.h first.
#include "hwy/highway.h"
#include "kernels/compressed_levels-inl.h"

HWY_BEFORE_NAMESPACE();
namespace tsquant::kernels {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

#if HWY_TARGET != HWY_SCALAR && HWY_TARGET != HWY_EMU128  // which compilers call vectors differs

using VFloat = hn::Vec<DFloat>;
using DByte = hn::Repartition<uint8_t, DFloat>;
using VByte = hn::Vec<DByte>;

// Eight partial sums are one part of eight lanes, or two parts of four.
constexpr int kLanes = static_cast<int>(hn::MaxLanes(DFloat()));
constexpr int kParts = 8 / kLanes;

/// Parameters of blocks 4 * step + {0, 2} + half, one per half of a vector (or of blocks 2 * step + {0, 1}).
template <int kBlocks>
HWY_INLINE VFloat of_blocks(const float* values, int64_t step, int part, int half) {
  const DFloat d;
  if constexpr (kBlocks == 1) {
    return hn::Set(d, values[step]);
  } else if constexpr (kParts == 2) {
    return hn::Set(d, values[kBlocks * step + kBlocks / 2 * part + half]);
  } else {
    alignas(32) static constexpr uint8_t kPairs[32] = {0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3,
                                                       4, 5, 6, 7, 4, 5, 6, 7, 4, 5, 6, 7, 4, 5, 6, 7};
    alignas(32) static constexpr uint8_t kEven[32] = {0, 1, 2,  3,  0, 1, 2,  3,  0, 1, 2,  3,  0, 1, 2,  3,
                                                      8, 9, 10, 11, 8, 9, 10, 11, 8, 9, 10, 11, 8, 9, 10, 11};
    alignas(32) static constexpr uint8_t kOdd[32] = {4,  5,  6,  7,  4,  5,  6,  7,  4,  5,  6,  7,  4,  5,  6,  7,
                                                     12, 13, 14, 15, 12, 13, 14, 15, 12, 13, 14, 15, 12, 13, 14, 15};
    const DByte d8;
    if constexpr (kBlocks == 2) {
      uint64_t pair = 0;
      std::memcpy(&pair, values + 2 * step, sizeof(pair));
      const auto both = hn::BitCast(d8, hn::Set(hn::Repartition<uint64_t, DFloat>(), pair));
      return hn::BitCast(d, hn::TableLookupBytes(both, hn::Load(d8, kPairs)));
    } else {
      const auto all = hn::BitCast(d8, hn::LoadDup128(d, values + 4 * step));
      return hn::BitCast(d, hn::TableLookupBytes(all, hn::Load(d8, half == 0 ? kEven : kOdd)));
    }
  }
}

/// A source of weights gives, for one step and part, `kPlanes` times four vectors of levels. Vector q of them goes into
/// the sums of half q / 2 where a step has two halves.
template <LevelKind kKind>
class ByteSource {
 public:
  static constexpr int kBlocks = 1, kHalves = 1, kPlanes = 1, kInputsAtOnce = 2;

  HWY_INLINE ByteSource(const DotFormat& format, const DotRow& row)
      : levels_(format.table()), codes_(static_cast<const uint8_t*>(row.codes)), zeros_(row.zeros) {}

  HWY_INLINE void start(int64_t step, int part) {
    at_ = codes_ + 32 * step + kLanes * part;
    if constexpr (kKind == LevelKind::kUnsigned) {
      const auto zero = static_cast<uint8_t>(zeros_[step]);
      levels_.start_group(&zero);
    }
  }

  HWY_INLINE VFloat vector(int /*plane*/, int q) const { return levels_(at_ + 8 * q); }

 private:
  Levels<kKind, DFloat> levels_;
  const uint8_t* codes_;
  const float* zeros_;
  const uint8_t* at_ = nullptr;
};

class ValueSource {
 public:
  static constexpr int kBlocks = 1, kHalves = 1, kPlanes = 1, kInputsAtOnce = 4;

  HWY_INLINE ValueSource(const DotFormat& /*format*/, const DotRow& row)
      : values_(static_cast<const float*>(row.codes)) {}
  HWY_INLINE void start(int64_t step, int part) { at_ = values_ + 32 * step + kLanes * part; }
  HWY_INLINE VFloat vector(int /*plane*/, int q) const { return hn::LoadU(DFloat(), at_ + 8 * q); }

 private:
  const float* values_;
  const float* at_ = nullptr;
};

/// Where levels of at most 16 codes come from.
enum class Lookup {
  kZeros,  ///< the code less the zero point of its block
  kShort,  ///< two shuffles: levels whose lower 16 bits are zero
  kLong,   ///< four shuffles
};

template <int kBits, Lookup kLookup>
class SmallSource {
 public:
  static constexpr int kHalves = kBits == 4 ? 1 : 2, kBlocks = 2 * kHalves, kPlanes = kBits == 4 ? 2 : 4;
  static constexpr int kInputsAtOnce = 4;

  HWY_INLINE SmallSource(const DotFormat& format, const DotRow& row)
      : codes_(static_cast<const uint8_t*>(row.codes)), high_bits_(codes_ + (row.n * 2 + 7) / 8), zeros_(row.zeros) {
    for (int k = 0; k < 4; ++k) planes_[k] = hn::LoadDup128(DByte(), format.plane(k));
  }

  HWY_INLINE void start(int64_t step, int part) {
    const DByte d;
    bytes_ = hn::LoadU(d, codes_ + 32 * step + 16 * part);
    if constexpr (kBits == 3) start_high_bits(step, part);
    if constexpr (kLookup == Lookup::kZeros) {
      for (int half = 0; half < kHalves; ++half) {
        zero_[half] = hn::Add(of_blocks<kBlocks>(zeros_, step, part, half), hn::Set(DFloat(), kMagic));
      }
    }
  }

  /// The bytes of all four vectors of a plane are looked up together.
  HWY_INLINE void look_up(int plane) {
    const DByte d;
    const hn::Repartition<uint16_t, DByte> d16;
    const VByte codes = codes_of(plane);
    if constexpr (kLookup == Lookup::kZeros) {
      upper_[0] = hn::BitCast(d16, hn::InterleaveLower(d, codes, hn::Zero(d)));
      upper_[1] = hn::BitCast(d16, hn::InterleaveUpper(d, codes, hn::Zero(d)));
    } else {
      upper_[0] = pairs<2>(codes, true);
      upper_[1] = pairs<2>(codes, false);
      if constexpr (kLookup == Lookup::kLong) {
        lower_[0] = pairs<0>(codes, true);
        lower_[1] = pairs<0>(codes, false);
      }
    }
  }

  HWY_INLINE VFloat vector(int plane, int q) {
    const DFloat d;
    const hn::Repartition<uint16_t, DByte> d16;
    if (q == 0) look_up(plane);
    const auto upper = upper_[q / 2];
    if constexpr (kLookup == Lookup::kZeros) {
      // 2^23 + code, as the bits of a float; the difference is exact.
      const auto magic = hn::Set(d16, 0x4B00);
      const auto wide = q % 2 == 0 ? hn::InterleaveLower(d16, upper, magic) : hn::InterleaveUpper(d16, upper, magic);
      return hn::Sub(hn::BitCast(d, wide), zero_[kHalves == 1 ? 0 : q / 2]);
    } else {
      auto lower = hn::Zero(d16);
      if constexpr (kLookup == Lookup::kLong) lower = lower_[q / 2];
      return hn::BitCast(d,
                         q % 2 == 0 ? hn::InterleaveLower(d16, lower, upper) : hn::InterleaveUpper(d16, lower, upper));
    }
  }

 private:
  using V16 = hn::Vec<hn::Repartition<uint16_t, DByte>>;
  static constexpr float kMagic = 8388608.0F;

  /// 16 codes of every 128 bits in bytes; eight of them in a half.
  template <int kFirst>
  HWY_INLINE V16 pairs(VByte codes, bool lower) const {
    const DByte d;
    const hn::Repartition<uint16_t, DByte> d16;
    const auto a = hn::TableLookupBytes(planes_[kFirst], codes), b = hn::TableLookupBytes(planes_[kFirst + 1], codes);
    return hn::BitCast(d16, lower ? hn::InterleaveLower(d, a, b) : hn::InterleaveUpper(d, a, b));
  }

  template <int kShift>
  HWY_INLINE VByte shifted() const {
    const hn::Repartition<uint16_t, DByte> d16;
    return hn::BitCast(DByte(), hn::ShiftRight<kShift>(hn::BitCast(d16, bytes_)));
  }

  HWY_INLINE VByte codes_of(int plane) const {
    const DByte d;
    if constexpr (kBits == 4) {
      return hn::And(plane == 0 ? bytes_ : shifted<4>(), hn::Set(d, 15));
    } else {
      const auto bits = plane == 0 ? bytes_ : plane == 1 ? shifted<2>() : plane == 2 ? shifted<4>() : shifted<6>();
      const auto low = hn::And(bits, hn::Set(d, 3));
      if constexpr (kBits == 2) return low;
      const auto bit = hn::Set(hn::Repartition<uint16_t, DByte>(), static_cast<uint16_t>(0x1001 << plane));
      const auto mask = hn::BitCast(d, bit);
      const auto high = hn::VecFromMask(d, hn::Eq(hn::And(high_, mask), mask));
      return hn::Or(low, hn::And(high, hn::Set(d, 4)));
    }
  }

  /// Byte k of every 128 bits holds the 2-bit parts of four codes; their high bits are a half of byte k / 2.
  HWY_INLINE void start_high_bits(int64_t step, int part) {
    alignas(32) static constexpr uint8_t kByte[32] = {0, 0, 1, 1, 2,  2,  3,  3,  4,  4,  5,  5,  6,  6,  7,  7,
                                                      8, 8, 9, 9, 10, 10, 11, 11, 12, 12, 13, 13, 14, 14, 15, 15};
    const DByte d;
    const auto all = hn::LoadDup128(d, high_bits_ + 16 * step);
    high_ = hn::TableLookupBytes(all, hn::Load(d, kByte + 16 * part));
  }

  const uint8_t* codes_;
  const uint8_t* high_bits_;
  const float* zeros_;
  VByte bytes_, high_, planes_[4];
  V16 lower_[2], upper_[2];
  VFloat zero_[2];
};

HWY_INLINE float sum_of(const VFloat (&total)[kParts]) {
  float lanes[8];
  for (int part = 0; part < kParts; ++part) hn::StoreU(total[part], DFloat(), lanes + kLanes * part);
  for (int half = 4; half > 0; half /= 2) {
    for (int i = 0; i < half; ++i) lanes[i] += lanes[i + half];
  }
  return lanes[0];
}

/// One step of one part: products of kInputs rows go into their totals.
template <class Source, int kInputs>
HWY_INLINE void add_step(Source& source, const float* scales, int64_t step, int part, const float* x, int64_t stride,
                         VFloat (&total)[kInputs][kParts]) {
  const DFloat d;
  VFloat sum[kInputs][2 * Source::kHalves];
#pragma GCC unroll 4
  for (int r = 0; r < kInputs; ++r) {
#pragma GCC unroll 4
    for (int c = 0; c < 2 * Source::kHalves; ++c) sum[r][c] = hn::Zero(d);
  }
  source.start(step, part);
#pragma GCC unroll 4
  for (int plane = 0; plane < Source::kPlanes; ++plane) {
#pragma GCC unroll 4
    for (int q = 0; q < 4; ++q) {
      const VFloat level = source.vector(plane, q);
      const int c = Source::kHalves == 1 ? q % 2 : q;
#pragma GCC unroll 4
      for (int r = 0; r < kInputs; ++r) {
        sum[r][c] = hn::MulAdd(hn::LoadU(d, x + r * stride + 32 * plane + 8 * q), level, sum[r][c]);
      }
    }
  }
#pragma GCC unroll 2
  for (int half = 0; half < Source::kHalves; ++half) {
    const VFloat scale = of_blocks<Source::kBlocks>(scales, step, part, half);
#pragma GCC unroll 4
    for (int r = 0; r < kInputs; ++r) {
      total[r][part] = hn::MulAdd(hn::Add(sum[r][2 * half], sum[r][2 * half + 1]), scale, total[r][part]);
    }
  }
}

template <class Source, int kInputs>
HWY_NOINLINE void dot(const DotFormat& format, const DotRow& row, const float* x, int64_t stride, float* sums) {
  Source source(format, row);
  const int64_t step = 32 * Source::kPlanes, steps = (row.n + step - 1) / step;
  VFloat total[kInputs][kParts];
#pragma GCC unroll 4
  for (int r = 0; r < kInputs; ++r) {
    for (int part = 0; part < kParts; ++part) total[r][part] = hn::Zero(DFloat());
  }
  for (int64_t i = 0; i < steps; ++i, x += step) {
#pragma GCC unroll 2
    for (int part = 0; part < kParts; ++part) add_step(source, row.scales, i, part, x + kLanes * part, stride, total);
  }
  for (int r = 0; r < kInputs; ++r) sums[r] = sum_of(total[r]);
}

template <class Source>
void dot_source(const DotFormat& format, const DotRow& row, const float* x, int64_t stride, int64_t inputs,
                float* sums) {
  if constexpr (Source::kInputsAtOnce == 4) {
    for (; inputs >= 4; inputs -= 4, x += 4 * stride, sums += 4) dot<Source, 4>(format, row, x, stride, sums);
  }
  for (; inputs >= 2; inputs -= 2, x += 2 * stride, sums += 2) dot<Source, 2>(format, row, x, stride, sums);
  if (inputs > 0) dot<Source, 1>(format, row, x, stride, sums);
}

template <int kBits>
void dot_small(const DotFormat& format, const DotRow& row, const float* x, int64_t stride, int64_t inputs,
               float* sums) {
  if (format.kind() == LevelKind::kUnsigned) {
    dot_source<SmallSource<kBits, Lookup::kZeros>>(format, row, x, stride, inputs, sums);
  } else if (format.short_levels() || kBits < 4) {
    dot_source<SmallSource<kBits, Lookup::kShort>>(format, row, x, stride, inputs, sums);
  } else {
    dot_source<SmallSource<4, Lookup::kLong>>(format, row, x, stride, inputs, sums);
  }
}

void dot_target(const DotFormat& format, const DotRow& row, const float* x, int64_t stride, int64_t inputs,
                float* sums) {
  switch (format.bits()) {
    case 2:
      return dot_small<2>(format, row, x, stride, inputs, sums);
    case 3:
      return dot_small<3>(format, row, x, stride, inputs, sums);
    case 4:
      return dot_small<4>(format, row, x, stride, inputs, sums);
    case 8:
      return with_kind(format.kind(), [&](auto kind) HWY_ATTR {
        dot_source<ByteSource<kind()>>(format, row, x, stride, inputs, sums);
      });
    default:
      return dot_source<ValueSource>(format, row, x, stride, inputs, sums);
  }
}

#else

/// The same sums in the same order, element by element.
float dot_plain(const DotFormat& format, const DotRow& row, const float* x) {
  const int64_t step = format.step(), steps = (row.n + step - 1) / step;
  const auto code_of = [&](int64_t i) -> int {
    const auto* codes = static_cast<const uint8_t*>(row.codes);
    if (format.bits() == 8) return codes[i];
    if (format.bits() == 4) return codes[i / 2] >> (i % 2 * 4) & 15;
    const int low = codes[i / 4] >> (i % 4 * 2) & 3;
    return format.bits() == 2 ? low : low | (codes[(row.n * 2 + 7) / 8 + i / 8] >> (i % 8) & 1) << 2;
  };
  const auto level_of = [&](int64_t i) -> float {
    if (format.bits() == 32) return static_cast<const float*>(row.codes)[i];
    const int code = code_of(i);
    if (format.kind() == LevelKind::kUnsigned) return static_cast<float>(code) - row.zeros[i / kCodeBlock];
    if (format.kind() == LevelKind::kSigned && format.bits() == 8) return static_cast<float>(static_cast<int8_t>(code));
    if (format.kind() == LevelKind::kSigned) return static_cast<float>(code - (1 << (format.bits() - 1)));
    return format.table()[code];
  };
  const int halves = format.bits() < 4 ? 2 : 1, planes = static_cast<int>(step / 32);
  float total[8] = {};
  for (int64_t i = 0; i < steps; ++i, x += step) {
    for (int lane = 0; lane < 8; ++lane) {
      float sum[4] = {};
      int64_t element = 0;
      for (int vector = 0; vector < 4 * planes; ++vector) {
        const int q = vector % 4, c = halves == 1 ? q % 2 : q;
        element = i * step + format.element_at(8 * vector + lane);
        sum[c] = x[8 * vector + lane] * level_of(element) + sum[c];
      }
      for (int half = 0; half < halves; ++half) {
        const int64_t first = i * step + format.element_at(8 * 2 * half + lane);
        total[lane] = (sum[2 * half] + sum[2 * half + 1]) * row.scales[first / kCodeBlock] + total[lane];
      }
    }
  }
  for (int half = 4; half > 0; half /= 2) {
    for (int i = 0; i < half; ++i) total[i] += total[i + half];
  }
  return total[0];
}

void dot_target(const DotFormat& format, const DotRow& row, const float* x, int64_t stride, int64_t inputs,
                float* sums) {
  for (int64_t r = 0; r < inputs; ++r) sums[r] = dot_plain(format, row, x + r * stride);
}
#endif

}  // namespace HWY_NAMESPACE
}  // namespace tsquant::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE

namespace tsquant::kernels {

HWY_EXPORT(dot_target);

DotFormat::DotFormat(int bits, LevelKind kind, const float* table) : bits_(bits), kind_(kind), table_(table) {
  if (bits > 4) return;
  short_levels_ = true;
  for (int code = 0; code < 1 << bits; ++code) {
    const float level = kind == LevelKind::kTable16 ? table[code] : static_cast<float>(code - (1 << (bits - 1)));
    uint8_t bytes[4];
    std::memcpy(bytes, &level, sizeof(bytes));
    for (int k = 0; k < 4; ++k) planes_[k][code] = bytes[k];
    short_levels_ = short_levels_ && bytes[0] == 0 && bytes[1] == 0;
  }
}

DotFormat::DotFormat() = default;

int DotFormat::element_at(int position) const {
  if (bits_ >= 8) return position;
  const int plane = position / 32, q = position / 8 % 4, lane = position % 8;
  const int per_byte = 8 / (bits_ == 4 ? 4 : 2), byte = lane / 4 * 16 + 4 * q + lane % 4;
  return byte * per_byte + plane;
}

void arrange_inputs(const DotFormat& format, const float* x, int64_t n, float* arranged) {
  std::fill(arranged + n / format.step() * format.step(), arranged + format.padded(n), 0.0F);
  if (format.bits() >= 8) {
    std::copy(x, x + n, arranged);
    return;
  }
  const int64_t step = format.step();
  for (int64_t p = 0; p < step; ++p) {
    const int element = format.element_at(static_cast<int>(p));
    for (int64_t i = 0; i + element < n; i += step) arranged[i + p] = x[i + element];
  }
}

namespace {

/// The row with its planes padded to whole steps.
DotRow padded_row(const DotFormat& format, const DotRow& row, uint8_t* scratch) {
  const int64_t n = format.padded(row.n);
  const auto* from = static_cast<const uint8_t*>(row.codes);
  uint8_t* to = scratch;
  const int bits = format.bits();
  for (const int width : {32, 8, 4, 2, 1}) {
    if ((bits & width) == 0) continue;
    const int64_t bytes = (row.n * width + 7) / 8, wanted = n * width / 8;
    std::memcpy(to, from, static_cast<size_t>(bytes));
    std::memset(to + bytes, 0, static_cast<size_t>(wanted - bytes));
    from += bytes;
    to += wanted;
  }
  DotRow padded = row;
  padded.codes = scratch;
  padded.n = n;
  return padded;
}

}  // namespace

void dot_row(const DotFormat& format, const DotRow& row, const float* x, int64_t stride, int64_t inputs,
             uint8_t* scratch, float* sums) {
  const bool whole = row.n % format.step() == 0;
  HWY_DYNAMIC_DISPATCH(dot_target)
  (format, whole ? row : padded_row(format, row, scratch), x, stride, inputs, sums);
}

}  // namespace tsquant::kernels
#endif  // HWY_ONCE

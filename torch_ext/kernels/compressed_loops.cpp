// Packed codes to levels, values and products. Highway compiles this file once per instruction set.
#include "kernels/compressed_loops.h"

#include <algorithm>
#include <cstring>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/compressed_loops.cpp"
#include "hwy/foreach_target.h"
// The order matters: foreach_target.h first.
#include "hwy/highway.h"
#include "kernels/compressed_levels-inl.h"

HWY_BEFORE_NAMESPACE();
namespace tsquant::kernels {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

#undef TSQUANT_BYTE_VECTORS
#if HWY_TARGET == HWY_SCALAR || HWY_TARGET == HWY_EMU128  // which compilers call vectors differs
#define TSQUANT_BYTE_VECTORS 0
#else
#define TSQUANT_BYTE_VECTORS 1
#endif

// ---- packed planes to codes

/// Adds plane bits [first, first + width) to codes [i, count) of a plane of `width` bits per code.
HWY_INLINE void unpack_rest(const uint8_t* plane, int width, int first, int64_t i, int64_t count, uint8_t* codes) {
  const int per_byte = 8 / width, mask = (1 << width) - 1;
  for (; i < count; ++i) {
    const int part = plane[i / per_byte] >> (i % per_byte * width) & mask;
    codes[i] = static_cast<uint8_t>(codes[i] + (part << first));
  }
}

#if TSQUANT_BYTE_VECTORS
using DByte = hn::CappedTag<uint8_t, 32>;
using VByte = hn::Vec<DByte>;

/// a0 b0 a1 b1 ... of elements of type T, over whole vectors.
template <typename T>
HWY_INLINE void interleave(VByte a, VByte b, VByte& lower, VByte& upper) {
  const DByte d;
  const hn::Repartition<T, DByte> dt;
  const auto low = hn::BitCast(d, hn::InterleaveLower(dt, hn::BitCast(dt, a), hn::BitCast(dt, b)));
  const auto high = hn::BitCast(d, hn::InterleaveUpper(dt, hn::BitCast(dt, a), hn::BitCast(dt, b)));
  if constexpr (hn::MaxLanes(DByte()) == 32) {  // by 128 bits until now
    lower = hn::ConcatLowerLower(d, high, low);
    upper = hn::ConcatUpperUpper(d, high, low);
  } else {
    lower = low;
    upper = high;
  }
}

/// Codes of a plane written to, or added to, codes.
template <bool kAdd>
HWY_INLINE void put(VByte part, VByte offset, uint8_t* codes) {
  const DByte d;
  hn::StoreU(hn::Add(part, kAdd ? hn::LoadU(d, codes) : offset), d, codes);
}

template <int kShift>
HWY_INLINE VByte shift_right(VByte v) {
  const hn::Repartition<uint16_t, DByte> d16;
  return hn::BitCast(DByte(), hn::ShiftRight<kShift>(hn::BitCast(d16, v)));
}

/// @return how many codes were done
HWY_INLINE int64_t unpack4(const uint8_t* plane, int64_t count, int offset, uint8_t* codes) {
  const DByte d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  const auto mask = hn::Set(d, 15), less = hn::Set(d, static_cast<uint8_t>(-offset));
  int64_t i = 0;
  for (; i + 2 * lanes <= count; i += 2 * lanes) {
    const auto bytes = hn::LoadU(d, plane + i / 2);
    VByte lower, upper;
    interleave<uint8_t>(hn::And(bytes, mask), hn::And(shift_right<4>(bytes), mask), lower, upper);
    put<false>(lower, less, codes + i);
    put<false>(upper, less, codes + i + lanes);
  }
  return i;
}

/// Bits are those of 2-bit codes, or bits [first, first + 2) of longer ones.
template <bool kAdd>
HWY_INLINE int64_t unpack2(const uint8_t* plane, int64_t count, int first, int offset, uint8_t* codes) {
  const DByte d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  const auto mask = hn::Set(d, 3), less = hn::Set(d, static_cast<uint8_t>(-offset));
  const auto factor = [&](VByte part) {
    const hn::Repartition<uint16_t, DByte> d16;
    return first == 0 ? part : hn::BitCast(d, hn::ShiftLeftSame(hn::BitCast(d16, part), first));
  };
  int64_t i = 0;
  for (; i + 4 * lanes <= count; i += 4 * lanes) {
    const auto bytes = hn::LoadU(d, plane + i / 4);
    VByte pairs0, pairs1, others0, others1, codes0, codes1, codes2, codes3;
    interleave<uint8_t>(factor(hn::And(bytes, mask)), factor(hn::And(shift_right<2>(bytes), mask)), pairs0, pairs1);
    interleave<uint8_t>(factor(hn::And(shift_right<4>(bytes), mask)), factor(hn::And(shift_right<6>(bytes), mask)),
                        others0, others1);
    interleave<uint16_t>(pairs0, others0, codes0, codes1);
    interleave<uint16_t>(pairs1, others1, codes2, codes3);
    put<kAdd>(codes0, less, codes + i);
    put<kAdd>(codes1, less, codes + i + lanes);
    put<kAdd>(codes2, less, codes + i + 2 * lanes);
    put<kAdd>(codes3, less, codes + i + 3 * lanes);
  }
  return i;
}

/// Adds bit `first` to codes that are there.
HWY_INLINE int64_t unpack1(const uint8_t* plane, int64_t count, int first, uint8_t* codes) {
  const DByte d;
  const hn::Repartition<uint32_t, DByte> d32;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  alignas(32) uint8_t byte_of_lane[32], bit_of_lane[32];
  for (int k = 0; k < 32; ++k) {
    byte_of_lane[k] = static_cast<uint8_t>(k / 8);
    bit_of_lane[k] = static_cast<uint8_t>(1 << k % 8);
  }
  const auto from = hn::Load(d, byte_of_lane), bit = hn::Load(d, bit_of_lane);
  const auto one = hn::Set(d, static_cast<uint8_t>(1 << first));
  int64_t i = 0;
  for (; i + lanes <= count; i += lanes) {
    uint32_t bits = 0;
    std::memcpy(&bits, plane + i / 8, static_cast<size_t>(lanes / 8));
    const auto bytes = hn::TableLookupBytes(hn::BitCast(d, hn::Set(d32, bits)), from);
    const auto set = hn::VecFromMask(d, hn::Eq(hn::And(bytes, bit), bit));
    hn::StoreU(hn::Add(hn::LoadU(d, codes + i), hn::And(set, one)), d, codes + i);
  }
  return i;
}
#endif

/// Codes [begin, ...) of one plane; the first plane of a row writes the codes, the others add to them.
void unpack_plane(const uint8_t* plane, int width, int first, int64_t count, int offset, uint8_t* codes) {
  int64_t done = 0;
#if TSQUANT_BYTE_VECTORS
  if (width == 4) {
    done = unpack4(plane, count, offset, codes);
  } else if (width == 2) {
    done = first == 0 ? unpack2<false>(plane, count, 0, offset, codes) : unpack2<true>(plane, count, first, 0, codes);
  } else {
    done = unpack1(plane, count, first, codes);
  }
#endif
  if (first == 0) std::fill(codes + done, codes + count, static_cast<uint8_t>(-offset));
  unpack_rest(plane, width, first, done, count, codes);
}

void unpack_target(const uint8_t* packed, int64_t n, int bits, int64_t begin, int64_t count, int offset,
                   uint8_t* codes) {
  int first = 0;
  for (const int width : {4, 2, 1}) {
    if ((bits & width) == 0) continue;
    unpack_plane(packed + begin / 8 * width, width, first, count, offset, codes);
    packed += (n * width + 7) / 8;
    first += width;
  }
}

// ---- values

template <LevelKind kKind>
void dequantize_as(const RowLevels& row, const uint8_t* codes, int64_t begin, int64_t count, float* values) {
  const DFloat d;
  const hn::CappedTag<float, 1> one;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  Levels<kKind, DFloat> levels(row.table);
  Levels<kKind, decltype(one)> level(row.table);
  int64_t i = 0;
  for (int64_t group = begin / row.group_size; i < count; ++group) {
    const int64_t end = std::min(count, (group + 1) * row.group_size - begin);
    const uint8_t* zero = kKind == LevelKind::kUnsigned ? row.zeros + group : nullptr;
    levels.start_group(zero);
    level.start_group(zero);
    const auto scale = hn::Set(d, row.scales[group]);
    for (; i + lanes <= end; i += lanes) hn::StoreU(hn::Mul(levels(codes + i), scale), d, values + i);
    for (; i < end; ++i) hn::StoreU(hn::Mul(level(codes + i), hn::Set(one, row.scales[group])), one, values + i);
  }
}

void dequantize_target(const RowLevels& row, const uint8_t* codes, int64_t begin, int64_t count, float* values) {
  with_kind(row.kind, [&](auto kind) { dequantize_as<kind()>(row, codes, begin, count, values); });
}

// ---- scales

HWY_INLINE float half_value(uint16_t half) {
  const uint32_t sign = (half & 0x8000U) << 16, exponent = half >> 10 & 31U, mantissa = half & 0x3FFU;
  if (exponent == 0) return (sign == 0 ? 0x1p-24F : -0x1p-24F) * static_cast<float>(mantissa);
  const uint32_t bits = sign | (exponent == 31 ? 0xFFU : exponent + 112) << 23 | mantissa << 13;
  float value = 0;
  std::memcpy(&value, &bits, sizeof(value));
  return value;
}

void halves_target(const uint16_t* halves, int64_t n, float* values) {
  int64_t i = 0;
#if HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX3_DL  // an instruction for it
  const DFloat d;
  const auto* from = reinterpret_cast<const hwy::float16_t*>(halves);
  for (; i + 8 <= n; i += 8) {
    hn::StoreU(hn::PromoteTo(d, hn::LoadU(hn::Rebind<hwy::float16_t, DFloat>(), from + i)), d, values + i);
  }
#endif
  for (; i < n; ++i) values[i] = half_value(halves[i]);
}

}  // namespace HWY_NAMESPACE
}  // namespace tsquant::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE

namespace tsquant::kernels {

HWY_EXPORT(unpack_target);
HWY_EXPORT(dequantize_target);
HWY_EXPORT(halves_target);

void unpack_codes(const uint8_t* packed, int64_t n, int bits, int64_t begin, int64_t count, int offset,
                  uint8_t* codes) {
  if (bits == 8) {
    std::memcpy(codes, packed + begin, static_cast<size_t>(count));
  } else {
    HWY_DYNAMIC_DISPATCH(unpack_target)(packed, n, bits, begin, count, offset, codes);
  }
}

void dequantize_codes(const RowLevels& row, const uint8_t* codes, int64_t begin, int64_t count, float* values) {
  HWY_DYNAMIC_DISPATCH(dequantize_target)(row, codes, begin, count, values);
}

void halves_to_floats(const uint16_t* halves, int64_t n, float* values) {
  HWY_DYNAMIC_DISPATCH(halves_target)(halves, n, values);
}

}  // namespace tsquant::kernels
#endif  // HWY_ONCE

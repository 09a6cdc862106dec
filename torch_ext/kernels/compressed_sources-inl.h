// Sources of weights for compressed_dot_loops.cpp: codes of one step to vectors of floats, in the order of DotFormat.
// Compiled once per instruction set.
//
// start() takes the codes of a row, the number of a step and, where registers have four lanes, which half of its eight
// lanes is meant. vector(f) gives the kFields vectors of these lanes one after the other.
#if defined(TSQUANT_COMPRESSED_SOURCES_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef TSQUANT_COMPRESSED_SOURCES_INL_H
#undef TSQUANT_COMPRESSED_SOURCES_INL_H
#else
#define TSQUANT_COMPRESSED_SOURCES_INL_H
#endif

#include "hwy/highway.h"
#include "kernels/compressed_dot.h"
#include "kernels/compressed_levels-inl.h"

HWY_BEFORE_NAMESPACE();
namespace tsquant::kernels {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

#if HWY_TARGET != HWY_SCALAR && HWY_TARGET != HWY_EMU128  // which compilers call vectors differs

using VFloat = hn::Vec<DFloat>;
using DByte = hn::Repartition<uint8_t, DFloat>;
using VByte = hn::Vec<DByte>;
using DWord = hn::Repartition<uint32_t, DFloat>;
using VWord = hn::Vec<DWord>;

// Eight partial sums are one part of eight lanes, or two parts of four.
constexpr int kLanes = static_cast<int>(hn::MaxLanes(DFloat()));
constexpr int kParts = 8 / kLanes;

HWY_INLINE VWord load_words(const uint8_t* bytes) { return hn::BitCast(DWord(), hn::LoadU(DByte(), bytes)); }

HWY_INLINE VFloat to_floats(VWord words) {
  return hn::ConvertTo(DFloat(), hn::BitCast(hn::RebindToSigned<DFloat>(), words));
}

/// Four fields of kBits in every word, of which kBits * 4 bits are of use.
template <int kBits>
class FourFields {
 public:
  HWY_INLINE FourFields() {
    for (int k = 0; k < 4; ++k) mask_[k] = hn::Set(DWord(), ((1U << kBits) - 1) << (kBits * k));
  }
  HWY_INLINE VFloat vector(VWord words, int k) const {
    if (kBits == 8 && k == 3) return to_floats(hn::ShiftRight<24>(words));
    return to_floats(hn::And(words, mask_[k]));
  }

 private:
  VWord mask_[4];
};

template <bool kSigned>
class ByteFields {
 public:
  static constexpr int kFields = 4, kBlocks = 1;
  static constexpr bool kZeros = true;

  HWY_INLINE explicit ByteFields(const DotFormat& /*format*/, int64_t /*n*/) {}
  HWY_INLINE void start(const uint8_t* row, int64_t step, int part) {
    words_ = load_words(row + 32 * step + 16 * part);
    if constexpr (kSigned) words_ = hn::Xor(words_, hn::Set(DWord(), 0x80808080U));
  }
  HWY_INLINE VFloat vector(int f) const { return fields_.vector(words_, f); }

 private:
  FourFields<8> fields_;
  VWord words_;
};

class HalfByteFields {
 public:
  static constexpr int kFields = 8, kBlocks = 2;
  static constexpr bool kZeros = true;

  HWY_INLINE explicit HalfByteFields(const DotFormat& /*format*/, int64_t /*n*/) {}
  HWY_INLINE void start(const uint8_t* row, int64_t step, int part) {
    words_[0] = load_words(row + 32 * step + 16 * part);
    words_[1] = hn::ShiftRight<16>(words_[0]);
  }
  HWY_INLINE VFloat vector(int f) const { return fields_.vector(words_[f / 4], f % 4); }

 private:
  FourFields<4> fields_;
  VWord words_[2];
};

class TwoBitFields {
 public:
  static constexpr int kFields = 16, kBlocks = 4;
  static constexpr bool kZeros = true;

  HWY_INLINE explicit TwoBitFields(const DotFormat& /*format*/, int64_t /*n*/) {}
  HWY_INLINE void start(const uint8_t* row, int64_t step, int part) {
    words_[0] = load_words(row + 32 * step + 16 * part);
    words_[1] = hn::ShiftRight<8>(words_[0]);
    words_[2] = hn::ShiftRight<16>(words_[0]);
    words_[3] = hn::ShiftRight<24>(words_[0]);
  }
  HWY_INLINE VFloat vector(int f) const { return fields_.vector(words_[f / 4], f % 4); }

 private:
  FourFields<2> fields_;
  VWord words_[4];
};

/// The plane of single bits joins that of two, so that words hold the codes of even number in half bytes, others those
/// of odd number.
class ThreeBitFields {
 public:
  static constexpr int kFields = 16, kBlocks = 4;
  static constexpr bool kZeros = true;

  HWY_INLINE ThreeBitFields(const DotFormat& /*format*/, int64_t n) : bits_(n / 4) {}
  HWY_INLINE void start(const uint8_t* row, int64_t step, int part) {
    const DWord d;
    const VWord pairs = load_words(row + 32 * step + 16 * part);
    const VWord bits = spread_bits(row + bits_ + 16 * step + 8 * part);
    const VWord two = hn::Set(d, 0x33333333U);
    const VWord even = hn::ShiftLeft<2>(hn::And(bits, hn::Set(d, 0x11111111U)));
    const VWord odd = hn::And(bits, hn::Set(d, 0x44444444U));
    words_[0] = hn::Or(hn::And(pairs, two), even);
    words_[1] = hn::ShiftRight<16>(words_[0]);
    words_[2] = hn::Or(hn::And(hn::ShiftRight<2>(pairs), two), odd);
    words_[3] = hn::ShiftRight<16>(words_[2]);
  }
  HWY_INLINE VFloat vector(int f) const { return fields_.vector(words_[f / 4], f % 4); }

 private:
  /// Bit i of two bytes moves to bit 2 * i of a word.
  static HWY_INLINE VWord spread_bits(const uint8_t* bytes) {
    alignas(16) static constexpr uint8_t kSpread[16] = {0x00, 0x01, 0x04, 0x05, 0x10, 0x11, 0x14, 0x15,
                                                        0x40, 0x41, 0x44, 0x45, 0x50, 0x51, 0x54, 0x55};
    const DByte d;
    const hn::Repartition<uint16_t, DFloat> d16;
    const auto wide = hn::PromoteTo(d16, hn::LoadU(hn::Rebind<uint8_t, decltype(d16)>(), bytes));
    const auto halves = hn::And(hn::Or(wide, hn::ShiftLeft<4>(wide)), hn::Set(d16, 0x0F0F));
    return hn::BitCast(DWord(), hn::TableLookupBytes(hn::LoadDup128(d, kSpread), hn::BitCast(d, halves)));
  }

  int64_t bits_;
  FourFields<4> fields_;
  VWord words_[4];
};

HWY_INLINE VByte half_bytes(VByte bytes, bool upper) {
  const hn::Repartition<uint16_t, DByte> d16;
  if (upper) bytes = hn::BitCast(DByte(), hn::ShiftRight<4>(hn::BitCast(d16, bytes)));
  return hn::And(bytes, hn::Set(DByte(), 15));
}

/// Levels that are bytes.
class TableFields {
 public:
  static constexpr int kFields = 8, kBlocks = 2;
  static constexpr bool kZeros = true;

  HWY_INLINE TableFields(const DotFormat& format, int64_t /*n*/) : table_(hn::LoadDup128(DByte(), format.plane(0))) {}
  HWY_INLINE void start(const uint8_t* row, int64_t step, int part) {
    const VByte bytes = hn::LoadU(DByte(), row + 32 * step + 16 * part);
    words_[0] = hn::BitCast(DWord(), hn::TableLookupBytes(table_, half_bytes(bytes, false)));
    words_[1] = hn::BitCast(DWord(), hn::TableLookupBytes(table_, half_bytes(bytes, true)));
  }
  HWY_INLINE VFloat vector(int f) const { return fields_.vector(words_[f / 4], f % 4); }

 private:
  VByte table_;
  FourFields<8> fields_;
  VWord words_[2];
};

/// Levels that are floats: their bytes are looked up one after the other, or the upper two of them.
template <bool kShort>
class FloatTable {
 public:
  static constexpr int kFields = 8, kBlocks = 2;
  static constexpr bool kZeros = false;

  HWY_INLINE FloatTable(const DotFormat& format, int64_t /*n*/) {
    for (int k = 0; k < 4; ++k) planes_[k] = hn::LoadDup128(DByte(), format.plane(k));
  }
  HWY_INLINE void start(const uint8_t* row, int64_t step, int part) {
    bytes_ = hn::LoadU(DByte(), row + 32 * step + 16 * part);
  }
  HWY_INLINE VFloat vector(int f) {
    const int q = f % 4;
    if (q == 0) look_up(half_bytes(bytes_, f >= 4));
    const hn::Repartition<uint16_t, DByte> d16;
    const auto lower = kShort ? hn::Zero(d16) : lower_[q / 2], upper = upper_[q / 2];
    return hn::BitCast(DFloat(),
                       q % 2 == 0 ? hn::InterleaveLower(d16, lower, upper) : hn::InterleaveUpper(d16, lower, upper));
  }

 private:
  using D16 = hn::Repartition<uint16_t, DByte>;

  HWY_INLINE void look_up(VByte codes) {
    pairs(hn::TableLookupBytes(planes_[2], codes), hn::TableLookupBytes(planes_[3], codes), upper_);
    if constexpr (!kShort) {
      pairs(hn::TableLookupBytes(planes_[0], codes), hn::TableLookupBytes(planes_[1], codes), lower_);
    }
  }
  static HWY_INLINE void pairs(VByte a, VByte b, hn::Vec<D16> (&to)[2]) {
    to[0] = hn::BitCast(D16(), hn::InterleaveLower(DByte(), a, b));
    to[1] = hn::BitCast(D16(), hn::InterleaveUpper(DByte(), a, b));
  }

  VByte bytes_, planes_[4];
  hn::Vec<D16> lower_[2], upper_[2];
};

template <LevelKind kKind>
class ByteLevels {
 public:
  static constexpr int kFields = 4, kBlocks = 1;
  static constexpr bool kZeros = false;

  HWY_INLINE ByteLevels(const DotFormat& format, int64_t /*n*/) : levels_(format.table()) {}
  HWY_INLINE void start(const uint8_t* row, int64_t step, int part) { at_ = row + 32 * step + kLanes * part; }
  HWY_INLINE VFloat vector(int f) const { return levels_(at_ + 8 * f); }

 private:
  Levels<kKind, DFloat> levels_;
  const uint8_t* at_ = nullptr;
};

class ValueSource {
 public:
  static constexpr int kFields = 4, kBlocks = 1;
  static constexpr bool kZeros = false;

  HWY_INLINE ValueSource(const DotFormat& /*format*/, int64_t /*n*/) {}
  HWY_INLINE void start(const uint8_t* row, int64_t step, int part) {
    at_ = reinterpret_cast<const float*>(row) + 32 * step + kLanes * part;
  }
  HWY_INLINE VFloat vector(int f) const { return hn::LoadU(DFloat(), at_ + 8 * f); }

 private:
  const float* at_ = nullptr;
};

#endif

}  // namespace HWY_NAMESPACE
}  // namespace tsquant::kernels
HWY_AFTER_NAMESPACE();

#endif  // include guard per target

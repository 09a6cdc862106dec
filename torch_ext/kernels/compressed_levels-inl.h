// One-byte codes to levels, for the Highway files of this folder: compiled once per instruction set.
#if defined(TSQUANT_COMPRESSED_LEVELS_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef TSQUANT_COMPRESSED_LEVELS_INL_H
#undef TSQUANT_COMPRESSED_LEVELS_INL_H
#else
#define TSQUANT_COMPRESSED_LEVELS_INL_H
#endif

#include <cstdint>
#include <limits>
#include <type_traits>

#include "hwy/highway.h"
#include "kernels/compressed_loops.h"

HWY_BEFORE_NAMESPACE();
namespace tsquant::kernels {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

/// Levels of as many codes as D has lanes.
template <LevelKind kKind, class D>
class Levels {
 public:
  using V = hn::Vec<D>;

  HWY_INLINE explicit Levels(const float* table) : table_(table) {
    if constexpr (kInRegisters) {
      lower_ = hn::LoadU(D(), table);
      upper_ = hn::LoadU(D(), table + 8);
    }
  }

  HWY_INLINE void start_group(const uint8_t* zero) {
    if constexpr (kKind == LevelKind::kUnsigned) zero_ = hn::Set(D32(), *zero);
  }

  HWY_INLINE V operator()(const uint8_t* codes) const {
    const D d;
    const D32 d32;
    if constexpr (kKind == LevelKind::kSigned) {
      const hn::Rebind<int8_t, D> d8;
      return hn::ConvertTo(d, hn::PromoteTo(d32, hn::LoadU(d8, reinterpret_cast<const int8_t*>(codes))));
    } else {
      const auto code = hn::PromoteTo(d32, hn::LoadU(hn::Rebind<uint8_t, D>(), codes));
      if constexpr (kKind == LevelKind::kUnsigned) {
        return hn::ConvertTo(d, hn::Sub(code, zero_));
      } else if constexpr (kKind == LevelKind::kE4M3) {
        return e4m3(code);
      } else if constexpr (kKind == LevelKind::kE5M2 && hn::MaxLanes(D()) == 8) {
        const hn::Rebind<uint16_t, D> d16;
        const auto halves = hn::ShiftLeft<8>(hn::PromoteTo(d16, hn::LoadU(hn::Rebind<uint8_t, D>(), codes)));
        return hn::PromoteTo(d, hn::BitCast(hn::Rebind<hwy::float16_t, D>(), halves));
      } else if constexpr (kInRegisters) {
        const auto index = hn::IndicesFromVec(d, hn::And(code, hn::Set(d32, 7)));
        const auto is_upper = hn::RebindMask(d, hn::Gt(code, hn::Set(d32, 7)));
        return hn::IfThenElse(is_upper, hn::TableLookupLanes(upper_, index), hn::TableLookupLanes(lower_, index));
      } else {
        return hn::GatherIndex(d, table_, code);
      }
    }
  }

 private:
  using D32 = hn::RebindToSigned<D>;
  static constexpr bool kInRegisters = kKind == LevelKind::kTable16 && hn::MaxLanes(D()) == 8;

  /// The bits of normal numbers move to their places in float32; subnormal ones are multiples of 2^-9. Not by
  /// multiplying a subnormal float32: processors may be set to flush these to zero.
  static HWY_INLINE V e4m3(hn::Vec<D32> code) {
    const D d;
    const D32 d32;
    const auto magnitude = hn::And(code, hn::Set(d32, 0x7F));
    const auto normal = hn::BitCast(d, hn::Add(hn::ShiftLeft<20>(magnitude), hn::Set(d32, 120 << 23)));
    const auto subnormal = hn::Mul(hn::ConvertTo(d, magnitude), hn::Set(d, 0x1p-9F));
    const auto is_normal = hn::RebindMask(d, hn::Gt(magnitude, hn::Set(d32, 7)));
    const auto is_nan = hn::RebindMask(d, hn::Eq(magnitude, hn::Set(d32, 0x7F)));
    const auto number = hn::IfThenElse(is_normal, normal, subnormal);
    const auto sign = hn::BitCast(d, hn::ShiftLeft<24>(hn::Sub(code, magnitude)));
    return hn::Or(sign, hn::IfThenElse(is_nan, hn::Set(d, std::numeric_limits<float>::quiet_NaN()), number));
  }

  const float* table_;
  V lower_, upper_;
  hn::Vec<D32> zero_;
};

using DFloat = hn::CappedTag<float, 8>;

/// Calls op with the kind as a constant.
template <class Op>
HWY_INLINE auto with_kind(LevelKind kind, const Op& op) {
  switch (kind) {
    case LevelKind::kSigned:
      return op(std::integral_constant<LevelKind, LevelKind::kSigned>());
    case LevelKind::kUnsigned:
      return op(std::integral_constant<LevelKind, LevelKind::kUnsigned>());
    case LevelKind::kE4M3:
      return op(std::integral_constant<LevelKind, LevelKind::kE4M3>());
    case LevelKind::kE5M2:
      return op(std::integral_constant<LevelKind, LevelKind::kE5M2>());
    case LevelKind::kTable16:
      return op(std::integral_constant<LevelKind, LevelKind::kTable16>());
    default:
      return op(std::integral_constant<LevelKind, LevelKind::kTable256>());
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace tsquant::kernels
HWY_AFTER_NAMESPACE();

#endif  // include guard per target

// Codes to float vectors and back, for the Highway files of this folder: compiled once per instruction set.
#if defined(TSQUANT_CODE_VECTORS_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef TSQUANT_CODE_VECTORS_INL_H
#undef TSQUANT_CODE_VECTORS_INL_H
#else
#define TSQUANT_CODE_VECTORS_INL_H
#endif

#include <cstdint>

#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace tsquant::kernels {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

/// The value itself, in a register as it is: the compiler cannot look through this.
template <class V>
HWY_INLINE V in_register(V v) {
#if HWY_TARGET == HWY_AVX2
  asm("" : "+x"(v.raw));
#elif HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX3_DL
  asm("" : "+v"(v.raw));
#endif
  return v;
}

/// A product before it is added to something: keeps the compiler from fusing the two into one instruction, which would
/// round once less than the reference.
template <class V>
HWY_INLINE V rounded(V v) {
  return in_register(v);
}

/// (codes - zero_point) * scale for the vector at q; T is the type of the codes.
template <typename T, class D, class VI, class V>
HWY_INLINE V load_values(D d, const uint8_t* q, VI zero_point, V scale) {
  const hn::RebindToSigned<D> di;
  const hn::Rebind<T, D> dq;
  const auto wide = hn::PromoteTo(di, hn::LoadU(dq, reinterpret_cast<const T*>(q)));
  return hn::Mul(hn::ConvertTo(d, hn::Sub(wide, zero_point)), scale);
}

/// Codes of one vector: round(scaled), clamped, + zero point. Clamping first gives the same and keeps the conversion in
/// range: `lower` and `upper` are the bounds less the zero point. The comparison makes NaN the lower bound everywhere.
template <typename T, class D, class V, class VI>
HWY_INLINE void store_codes(D /*d*/, V scaled, V lower, V upper, VI zero_point, uint8_t* out) {
  const hn::Rebind<T, D> dq;
  const auto clamped = hn::Min(hn::IfThenElse(hn::Ge(scaled, lower), scaled, lower), upper);
  const auto codes = hn::Add(hn::NearestInt(clamped), zero_point);
  hn::StoreU(hn::DemoteTo(dq, codes), dq, reinterpret_cast<T*>(out));
}

#undef TSQUANT_X86_VECTORS
#if HWY_ARCH_X86 && HWY_TARGET != HWY_SCALAR && HWY_TARGET != HWY_EMU128
#define TSQUANT_X86_VECTORS 1
#else
#define TSQUANT_X86_VECTORS 0
#endif

#if TSQUANT_X86_VECTORS
/// hn::NearestInt without its care for values above int32; values below it and NaN give the lowest int32.
template <class D32, class V>
HWY_INLINE hn::Vec<D32> nearest(D32 /*d*/, V v) {
  if constexpr (sizeof(v) == 16) return hn::Vec<D32>{_mm_cvtps_epi32(v.raw)};
#if HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX3_DL
  if constexpr (sizeof(v) == 32) return hn::Vec<D32>{_mm256_cvtps_epi32(v.raw)};
#endif
#if HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX3_DL
  if constexpr (sizeof(v) == 64) return hn::Vec<D32>{_mm512_cvtps_epi32(v.raw)};
#endif
}

/// As store_codes for two vectors, in half the instructions: the lower bound is left to saturation. Two vectors packed
/// into one are interleaved by 128 bits, which the last permutation undoes.
template <typename T, class D, class V>
HWY_INLINE void store_code_pair(D d, V scaled0, V scaled1, V upper, int32_t zero_point, int32_t low, uint8_t* out) {
  const hn::RebindToSigned<D> d32;
  const hn::Repartition<int16_t, D> d16;
  const hn::Rebind<T, decltype(d16)> dq;
  const hn::Repartition<uint32_t, decltype(dq)> groups;
  constexpr uint32_t kLanes = hn::MaxLanes(D()) / 4;
  alignas(64) uint32_t order[16];
  for (uint32_t k = 0; k < kLanes; ++k) {
    order[k] = 2 * k;
    order[kLanes + k] = 2 * k + 1;
  }
  // The order of the operands lets NaN through.
  const auto code0 = nearest(d32, hn::Min(upper, scaled0)), code1 = nearest(d32, hn::Min(upper, scaled1));
  const auto both =
      hn::SaturatedAdd(hn::ReorderDemote2To(d16, code0, code1), hn::Set(d16, static_cast<int16_t>(zero_point)));
  const auto codes = hn::Max(hn::DemoteTo(dq, both), hn::Set(dq, static_cast<T>(low)));
  if constexpr (kLanes == 1) {
    hn::StoreU(codes, dq, reinterpret_cast<T*>(out));
  } else {
    const auto ordered = hn::TableLookupLanes(hn::BitCast(groups, codes), hn::SetTableIndices(groups, order));
    hn::StoreU(hn::BitCast(dq, ordered), dq, reinterpret_cast<T*>(out));
  }
}
#endif

/// Calls op(tag, i) so that vectors of `Lane` starting at the given i cover [0, n). The last vector may overlap the one
/// before it, so op must only depend on i.
template <typename Lane, class Op>
HWY_INLINE void cover(int64_t n, const Op& op) {
  const hn::ScalableTag<Lane> d;
  const hn::CappedTag<Lane, 4> four;
  const hn::CappedTag<Lane, 1> one;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t i = 0;
  if (n >= lanes) {
    for (; i + lanes <= n; i += lanes) op(d, i);
    if (i < n) op(d, n - lanes);
  } else if (n >= 4) {
    for (; i + 4 <= n; i += 4) op(four, i);
    if (i < n) op(four, n - 4);
  } else {
    for (; i < n; ++i) op(one, i);
  }
}

/// The same for floats, two vectors at a time: op.pair(tag, i) does two where there are as many.
template <class Op>
HWY_INLINE void cover_pairs(int64_t n, const Op& op) {
#if TSQUANT_X86_VECTORS
  const hn::ScalableTag<float> d;
  const auto pair = 2 * static_cast<int64_t>(hn::Lanes(d));
  if (n >= pair) {
    int64_t i = 0;
    for (; i + pair <= n; i += pair) op.pair(d, i);
    if (i < n) op.pair(d, n - pair);
    return;
  }
#endif
  cover<float>(n, op);
}

}  // namespace HWY_NAMESPACE
}  // namespace tsquant::kernels
HWY_AFTER_NAMESPACE();

#endif  // include guard per target

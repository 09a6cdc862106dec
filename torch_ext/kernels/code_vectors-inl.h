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

/// The value itself. Between a product and a sum it keeps the compiler from fusing the two into one instruction, which
/// would round once less than the reference.
template <class V>
HWY_INLINE V rounded(V v) {
#if HWY_TARGET == HWY_AVX2
  asm("" : "+x"(v.raw));
#elif HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX3_DL
  asm("" : "+v"(v.raw));
#endif
  return v;
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

}  // namespace HWY_NAMESPACE
}  // namespace tsquant::kernels
HWY_AFTER_NAMESPACE();

#endif  // include guard per target

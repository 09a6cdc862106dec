// Sums and products of codes. Highway compiles this file once per instruction set.
#include "kernels/byte_loops.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/binary_loops.cpp"
#include "hwy/foreach_target.h"
// The order matters: foreach_target.h first.
#include "hwy/highway.h"
#include "kernels/code_vectors-inl.h"

HWY_BEFORE_NAMESPACE();
namespace tsquant::kernels {
namespace HWY_NAMESPACE {

template <typename T, Binary Kind, bool BRepeats>
struct BinaryBlock {
  BinaryParams p;  // a copy, because a store of bytes might change what a reference shows
  const uint8_t *a, *b;
  uint8_t* out;

  /// The result before rounding, in units of its scale.
  template <class D>
  HWY_INLINE hn::Vec<D> scaled(D d, int64_t i) const {
    const hn::RebindToSigned<D> di;
    const auto x = load_values<T>(d, a + i, hn::Set(di, p.zero_point_a), hn::Set(d, p.scale_a));
    auto y = hn::Set(d, 0.0f);
    if constexpr (BRepeats) {
      const T code = static_cast<T>(*b);
      y = hn::Set(d, static_cast<float>(code - p.zero_point_b) * p.scale_b);
    } else {
      y = load_values<T>(d, b + i, hn::Set(di, p.zero_point_b), hn::Set(d, p.scale_b));
    }
    const auto both = Kind == Binary::kAdd ? hn::Add(rounded(x), rounded(y)) : hn::Mul(x, y);
    return hn::Mul(both, hn::Set(d, p.inverse_out));
  }
  template <class D>
  HWY_INLINE hn::Vec<D> upper(D d) const {
    return hn::Set(d, static_cast<float>(p.high - p.zero_point));
  }

  template <class D>
  HWY_INLINE void operator()(D d, int64_t i) const {
    const auto lower = hn::Set(d, static_cast<float>(p.low - p.zero_point));
    const hn::RebindToSigned<D> di;
    store_codes<T>(d, scaled(d, i), lower, upper(d), hn::Set(di, p.zero_point), out + i);
  }

#if TSQUANT_X86_VECTORS
  template <class D>
  HWY_INLINE void pair(D d, int64_t i) const {
    const auto lanes = static_cast<int64_t>(hn::Lanes(d));
    store_code_pair<T>(d, scaled(d, i), scaled(d, i + lanes), upper(d), p.zero_point, p.low, out + i);
  }
#endif
};

template <typename T, Binary Kind, bool BRepeats>
void binary_rows(const BinaryRows& r, const BinaryParams& p) {
  for (int64_t row = 0; row < r.rows; ++row) {
    cover_pairs(r.n,
                BinaryBlock<T, Kind, BRepeats>{p, r.a + row * r.a_row, r.b + row * r.b_row, r.out + row * r.out_row});
  }
}

template <typename T>
void binary_typed(const BinaryRows& r, const BinaryParams& p) {
  if (p.op == Binary::kAdd) {
    r.b_repeats ? binary_rows<T, Binary::kAdd, true>(r, p) : binary_rows<T, Binary::kAdd, false>(r, p);
  } else {
    r.b_repeats ? binary_rows<T, Binary::kMul, true>(r, p) : binary_rows<T, Binary::kMul, false>(r, p);
  }
}

void binary_target(const BinaryRows& r, const BinaryParams& p) {
  p.is_signed ? binary_typed<int8_t>(r, p) : binary_typed<uint8_t>(r, p);
}

}  // namespace HWY_NAMESPACE
}  // namespace tsquant::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace tsquant::kernels {
HWY_EXPORT(binary_target);
void binary_codes(const BinaryRows& r, const BinaryParams& p) { HWY_DYNAMIC_DISPATCH(binary_target)(r, p); }
}  // namespace tsquant::kernels
#endif

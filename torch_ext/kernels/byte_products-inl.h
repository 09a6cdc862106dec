// Exact products of unsigned codes with int8, and how group sums become floats; for the Highway files of this folder.
// Compiled once per instruction set.
#if defined(TSQUANT_BYTE_PRODUCTS_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef TSQUANT_BYTE_PRODUCTS_INL_H
#undef TSQUANT_BYTE_PRODUCTS_INL_H
#else
#define TSQUANT_BYTE_PRODUCTS_INL_H
#endif

#include <cstdint>

#include "hwy/highway.h"

#undef TSQUANT_BYTE_PRODUCTS
#if HWY_ARCH_X86 && HWY_TARGET != HWY_SCALAR && HWY_TARGET != HWY_EMU128  // Highway 1.0 has no name for PMADDUBSW
#define TSQUANT_BYTE_PRODUCTS 1
#else
#define TSQUANT_BYTE_PRODUCTS 0
#endif

HWY_BEFORE_NAMESPACE();
namespace tsquant::kernels {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

#if TSQUANT_BYTE_PRODUCTS
using DCode = hn::CappedTag<uint8_t, 32>;
using VCode = hn::Vec<DCode>;
using D16 = hn::Repartition<int16_t, DCode>;
using V16 = hn::Vec<D16>;
using D32 = hn::Repartition<int32_t, DCode>;
using V32 = hn::Vec<D32>;
using DReal = hn::Repartition<float, DCode>;
using VReal = hn::Vec<DReal>;

constexpr int64_t kBytes = hn::MaxLanes(DCode());  // 16 or 32
constexpr int64_t kWords = kBytes / 4;

/// a[2i] * b[2i] + a[2i+1] * b[2i+1], with b as int8. Exact while that stays within 16 bits: codes up to 7 bits.
HWY_INLINE V16 byte_pairs(VCode a, VCode b) {
#if HWY_TARGET <= HWY_AVX2
  return V16{_mm256_maddubs_epi16(a.raw, b.raw)};
#else
  return V16{_mm_maddubs_epi16(a.raw, b.raw)};
#endif
}

/// sum[i] + a[2i] * b[2i] + a[2i+1] * b[2i+1]
HWY_INLINE V32 add_pairs(V32 sum, V16 a, V16 b) {
  V32 unused = hn::Zero(D32());  // the second half of the sums of other architectures
  return hn::ReorderWidenMulAccumulate(D32(), a, b, sum, unused);
}

HWY_INLINE V32 add_pairs(V32 sum, V16 a) { return add_pairs(sum, a, hn::Set(D16(), 1)); }

/// Keeps gcc from adding the products of several steps before it adds them to a sum: they would not fit into registers.
template <class V>
HWY_INLINE void keep_sum(V& sum) {
  asm("" : "+x"(sum.raw));
}

/// What a group adds to the totals of some rows of weights. Rounded twice, as on processors without FMA.
/// @param input_sum,input_scale of the input's group, in all lanes
HWY_INLINE VReal add_group(VReal total, V32 products, const int32_t* zeros, const float* scales, V32 input_sum,
                           VReal input_scale) {
  const DReal d;
  const D32 d32;
  const V32 sum = hn::Sub(products, hn::Mul(hn::LoadU(d32, zeros), input_sum));
  const VReal scale = hn::Mul(hn::LoadU(d, scales), input_scale);
  return hn::Add(total, hn::Mul(hn::ConvertTo(d, sum), scale));
}
#else
/// The same for one row.
HWY_INLINE float add_group(float total, int32_t products, int32_t zero, float scale, int32_t input_sum,
                           float input_scale) {
  return total + static_cast<float>(products - zero * input_sum) * (scale * input_scale);
}
#endif

}  // namespace HWY_NAMESPACE
}  // namespace tsquant::kernels
HWY_AFTER_NAMESPACE();

#endif  // include guard per target

// Highway compiles this file once per instruction set.
#include <algorithm>
#include <cstring>
#include <limits>

#include "kernels/dynamic_inputs.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/dynamic_inputs_loops.cpp"
#include "hwy/foreach_target.h"
// The order matters: foreach_target.h first.
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace tsquant::kernels {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using DWhole = hn::CappedTag<float, 8>;
using DOne = hn::CappedTag<float, 1>;

template <class D>
HWY_INLINE hn::Vec<hn::RebindToSigned<D>> magnitude_bits(const float* x) {
  const D d;
  const hn::RebindToSigned<D> d32;
  return hn::And(hn::BitCast(d32, hn::LoadU(d, x)), hn::Set(d32, 0x7FFFFFFF));
}

/// The bits of the largest magnitude. They are in the order of magnitudes, with infinity and NaN above all numbers.
HWY_INLINE int32_t largest_magnitude(const float* x, int64_t n) {
  const hn::RebindToSigned<DWhole> d32;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d32));
  auto most = hn::Zero(d32);
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) most = hn::Max(most, magnitude_bits<DWhole>(x + i));
  int32_t largest = hn::GetLane(hn::MaxOfLanes(d32, most));
  for (; i < n; ++i) largest = std::max(largest, hn::GetLane(magnitude_bits<DOne>(x + i)));
  return largest;
}

template <class D>
HWY_INLINE hn::Vec<hn::RebindToSigned<D>> store_codes(const float* x, float factor, int8_t* codes) {
  const D d;
  const auto code = hn::NearestInt(hn::Mul(hn::LoadU(d, x), hn::Set(d, factor)));
  const hn::Rebind<int8_t, D> d8;
  hn::StoreU(hn::DemoteTo(d8, code), d8, codes);
  return code;
}

DynamicGroup quantize_target(const float* x, int64_t n, int8_t* codes) {
  const int32_t bits = largest_magnitude(x, n);
  float largest = 0;
  std::memcpy(&largest, &bits, sizeof(largest));
  DynamicGroup group;
  if (!(largest >= 0x1p-100F && largest <= std::numeric_limits<float>::max())) {
    if (!(largest < 0x1p-100F)) group.scale = std::numeric_limits<float>::quiet_NaN();
    std::fill_n(codes, n, int8_t{0});
    return group;
  }
  group.scale = largest / 127;
  const float factor = 127 / largest;
  const hn::RebindToSigned<DWhole> d32;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d32));
  auto sum = hn::Zero(d32);
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) sum = hn::Add(sum, store_codes<DWhole>(x + i, factor, codes + i));
  group.sum = hn::GetLane(hn::SumOfLanes(d32, sum));
  for (; i < n; ++i) group.sum += hn::GetLane(store_codes<DOne>(x + i, factor, codes + i));
  return group;
}

}  // namespace HWY_NAMESPACE
}  // namespace tsquant::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE

namespace tsquant::kernels {

HWY_EXPORT(quantize_target);

DynamicGroup quantize_group(const float* x, int64_t n, int8_t* codes) {
  return HWY_DYNAMIC_DISPATCH(quantize_target)(x, n, codes);
}

}  // namespace tsquant::kernels
#endif  // HWY_ONCE

// The loops of crossed.h, for the Highway files of this folder: compiled once per instruction set.
#if defined(TSQUANT_CROSSED_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef TSQUANT_CROSSED_INL_H
#undef TSQUANT_CROSSED_INL_H
#else
#define TSQUANT_CROSSED_INL_H
#endif

#include <cstring>

#include "hwy/highway.h"
#include "kernels/crossed.h"
#include "kernels/epilogue-inl.h"

#if HWY_TARGET == HWY_AVX2

HWY_BEFORE_NAMESPACE();
namespace tsquant::kernels {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

/// Two neighbouring 16-bit values in all lanes.
HWY_ATTR HWY_INLINE hn::Vec<D16> broadcast_pair(const int16_t* x) {
  int32_t pair;
  std::memcpy(&pair, x, sizeof(pair));
  return hn::BitCast(D16(), hn::Set(D32(), pair));
}

HWY_ATTR HWY_INLINE hn::Vec<D16> load_weights(const int16_t* w) { return hn::Load(D16(), w); }
HWY_ATTR HWY_INLINE hn::Vec<D16> load_weights(const int8_t* w) {
  return hn::PromoteTo(D16(), hn::Load(hn::Rebind<int8_t, D16>(), w));
}

/// Adds `steps` crossed steps to the sums of P pixels and U registers of channels. weights: [2 * steps][16][2]; the
/// pixels' values lie behind x.
template <int P, int U, typename Weight>
HWY_ATTR HWY_INLINE const Weight* add_crossed(const int16_t* const (&x)[P], const Weight* weights, int64_t steps,
                                              V32 (&sums)[P][U]) {
  const D32 d;
  V32 unused = hn::Zero(d);
  for (int64_t i = 0; i < steps * kCrossedStep; i += kCrossedStep, weights += kCrossedStep * kLanes) {
    hn::Vec<D16> w[2][U];
#pragma GCC unroll 2
    for (int u = 0; u < U; ++u) {
      w[0][u] = load_weights(weights + u * 2 * kN);
      w[1][u] = load_weights(weights + 2 * kLanes + u * 2 * kN);
    }
#pragma GCC unroll 8
    for (int p = 0; p < P; ++p) {
      const auto low = broadcast_pair(x[p] + i), high = broadcast_pair(x[p] + i + 2);
#pragma GCC unroll 2
      for (int u = 0; u < U; ++u) {
        sums[p][u] =
            hn::ReorderWidenMulAccumulate(d, hn::Add(low, w[1][u]), hn::Add(high, w[0][u]), sums[p][u], unused);
      }
    }
  }
  return weights;
}

/// x0 x2 + x1 x3 of all steps, for four pixels. A step that is not whole is read to its end.
HWY_ATTR HWY_INLINE hn::Vec128<int32_t> crossed_pixel_sums(const int16_t* const (&x)[4], int64_t steps) {
  const D16 d16;
  const D32 d;
  const hn::Repartition<uint64_t, D16> d64;
  const hn::CappedTag<int16_t, kCrossedStep> step16;
  constexpr int64_t kVectorSteps = 2 * kN / kCrossedStep;
  V32 sums[4], unused = hn::Zero(d);  // in the lower half of every 64 bits
  const auto add = [&](int p, hn::Vec<D16> v) HWY_ATTR {
    const auto second = hn::BitCast(d16, hn::ShiftRight<32>(hn::BitCast(d64, v)));
    sums[p] = hn::ReorderWidenMulAccumulate(d, v, second, sums[p], unused);
  };
#pragma GCC unroll 4
  for (int p = 0; p < 4; ++p) sums[p] = hn::Zero(d);
  int64_t i = 0;
  for (; i + kVectorSteps <= steps; i += kVectorSteps) {
#pragma GCC unroll 4
    for (int p = 0; p < 4; ++p) add(p, hn::LoadU(d16, x[p] + i * kCrossedStep));
  }
  for (; i < steps; ++i) {
#pragma GCC unroll 4
    for (int p = 0; p < 4; ++p) {
      const auto v = hn::LoadU(step16, x[p] + i * kCrossedStep);
      add(p, hn::ZeroExtendVector(d16, hn::ZeroExtendVector(hn::Half<D16>(), v)));
    }
  }
  const auto both = [&](V32 even, V32 odd) HWY_ATTR {  // pixels in turns
    return hn::Or(even, hn::BitCast(d, hn::ShiftLeft<32>(hn::BitCast(d64, odd))));
  };
  const auto a = hn::BitCast(d64, both(sums[0], sums[1])), b = hn::BitCast(d64, both(sums[2], sums[3]));
  const V32 halves =
      hn::Add(hn::BitCast(d, hn::InterleaveLower(d64, a, b)), hn::BitCast(d, hn::InterleaveUpper(d64, a, b)));
  const hn::Half<D32> half;
  return hn::Add(hn::LowerHalf(half, halves), hn::UpperHalf(half, halves));
}

}  // namespace HWY_NAMESPACE
}  // namespace tsquant::kernels
HWY_AFTER_NAMESPACE();

#endif  // HWY_TARGET

#endif  // include guard per target

// The loops of narrow_conv.h, compiled by Highway.
#include "kernels/narrow_conv.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/narrow_conv_hwy.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "kernels/code_vectors-inl.h"
#include "kernels/crossed-inl.h"

#if HWY_TARGET == HWY_AVX2

HWY_BEFORE_NAMESPACE();
namespace tsquant::kernels {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

/// The codes of a pixel, two neighbours in all lanes of each register.
template <int Pairs>
HWY_ATTR HWY_INLINE void load_pixel(const uint8_t* codes, hn::Vec<D16> (&x)[Pairs]) {
  const hn::CappedTag<int16_t, 8> d16;
  const hn::Rebind<uint8_t, decltype(d16)> d8;
  HWY_ALIGN int16_t wide[2 * Pairs];
  for (int k = 0; k < 2 * Pairs; k += 8) hn::Store(hn::PromoteTo(d16, hn::LoadU(d8, codes + k)), d16, wide + k);
#pragma GCC unroll 16
  for (int k = 0; k < Pairs; ++k) x[k] = in_register(broadcast_pair(wide + 2 * k));
}

/// Two registers of results as words, before they are clamped. weights: [pair][2][8 channels][2]
template <int Pairs>
HWY_ATTR HWY_INLINE __m256i narrow_words(const hn::Vec<D16> (&x)[Pairs], const int16_t* weights,
                                         const float* multiplier, const float* bias, __m256i zero_point) {
  const D32 d;
  const D16 d16;
  const DF df;
  V32 s0 = hn::Zero(d), s1 = hn::Zero(d), unused = hn::Zero(d);
#pragma GCC unroll 16
  for (int k = 0; k < Pairs; ++k, weights += 4 * kN) {
    // In this order: gcc would add products to each other first, and run out of registers.
    s0 = in_register(hn::ReorderWidenMulAccumulate(d, x[k], hn::Load(d16, weights), s0, unused));
    s1 = in_register(hn::ReorderWidenMulAccumulate(d, x[k], hn::Load(d16, weights + 2 * kN), s1, unused));
  }
  const V32 r0 = nearest(fused(hn::ConvertTo(df, s0), hn::LoadU(df, multiplier), hn::LoadU(df, bias)));
  const V32 r1 = nearest(fused(hn::ConvertTo(df, s1), hn::LoadU(df, multiplier + kN), hn::LoadU(df, bias + kN)));
  return _mm256_adds_epi16(_mm256_packs_epi32(r0.raw, r1.raw), zero_point);
}

template <int Pairs>
HWY_ATTR void run_narrow(const NarrowRun& run) {
  const SixteenCodes codes(run.epilogue);
  const int64_t pixel_stride = run.epilogue.pixel_stride;
  uint8_t* out = run.epilogue.codes + run.first_pixel * pixel_stride;
  const uint8_t* source = run.source;
  for (int64_t p = 0; p < run.pixels; ++p, source += 2 * Pairs, out += pixel_stride) {
    hn::Vec<D16> x[Pairs];
    load_pixel(source, x);
    for (const NarrowBlock& block : run.blocks) {
      const int16_t* weights = run.weights + block.weights;
      const float *m = run.multiplier + block.parameters, *b = run.bias + block.parameters;
      const __m256i first = narrow_words(x, weights, m, b, codes.zero_point);
      // Of sixteen channels both halves are the same.
      const __m256i second =
          block.wide ? narrow_words(x, weights + 4 * kN * Pairs, m + 2 * kN, b + 2 * kN, codes.zero_point) : first;
      const __m256i packed = _mm256_packus_epi16(first, second);
      const __m256i result = _mm256_min_epu8(_mm256_max_epu8(packed, codes.low), codes.high);
      auto* to = out + block.first_channel;
      if (block.wide) {
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), result);
      } else {
        const __m256i halves = _mm256_permute4x64_epi64(result, 0x08);
        _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm256_castsi256_si128(halves));
      }
    }
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace tsquant::kernels
HWY_AFTER_NAMESPACE();

#endif

#if HWY_ONCE
namespace tsquant::kernels {

const NarrowKernel* narrow_kernel(Isa isa) {
#if HWY_TARGETS & HWY_AVX2
  static constexpr NarrowKernel kAvx2 = {Isa::kAvx2,
                                         {N_AVX2::run_narrow<4>, N_AVX2::run_narrow<8>, N_AVX2::run_narrow<12>}};
  if (isa == Isa::kAvx2) return &kAvx2;
#endif
  return nullptr;
}

}  // namespace tsquant::kernels
#endif

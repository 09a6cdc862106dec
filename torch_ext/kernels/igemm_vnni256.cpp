#include "kernels/igemm.h"

#if defined(__x86_64__)

#include <immintrin.h>

#include <cstring>

// Compiled for AVX-VNNI whatever the flags of the build are; the table asks has_isa().
#define TSQUANT_AVX_VNNI __attribute__((target("avxvnni,avx2,fma"), noinline))

namespace tsquant::kernels {
namespace {

constexpr int kMostPixels = 6;

/// sums[p][16 channels] over all taps and steps for P pixels. The instruction is written out, as in igemm_vnni512.cpp,
/// and in its VEX form, because not every processor that has it has AVX512.
template <int P>
TSQUANT_AVX_VNNI void accumulate(const Tile& t, int32_t* sums) {
  __m256i acc[P][2];
#pragma GCC unroll 8
  for (int p = 0; p < P; ++p) acc[p][0] = acc[p][1] = _mm256_setzero_si256();
  const int8_t* w = t.weights;
  const int64_t step_bytes = t.vectors * kLanes * 4;
  for (int64_t tap = 0; tap < t.taps; ++tap) {
    const uint8_t* x[P];
#pragma GCC unroll 8
    for (int p = 0; p < P; ++p) {
      const int32_t offset = t.offsets[p * t.taps + tap];
      x[p] = static_cast<const uint8_t*>(offset < 0 ? t.padding : t.source) + (offset < 0 ? 0 : offset);
    }
    for (int64_t i = 0; i < t.steps; ++i, w += step_bytes) {
      const __m256i w0 = _mm256_load_si256(reinterpret_cast<const __m256i*>(w));
      const __m256i w1 = _mm256_load_si256(reinterpret_cast<const __m256i*>(w + 32));
#pragma GCC unroll 8
      for (int p = 0; p < P; ++p) {
        int32_t four;
        std::memcpy(&four, x[p] + 4 * i, sizeof(four));
        const __m256i xv = _mm256_set1_epi32(four);
        asm("%{vex%} vpdpbusd %2, %1, %0" : "+x"(acc[p][0]) : "x"(xv), "x"(w0));
        asm("%{vex%} vpdpbusd %2, %1, %0" : "+x"(acc[p][1]) : "x"(xv), "x"(w1));
      }
    }
  }
#pragma GCC unroll 8
  for (int p = 0; p < P; ++p) {
    _mm256_store_si256(reinterpret_cast<__m256i*>(sums + p * kLanes), acc[p][0]);
    _mm256_store_si256(reinterpret_cast<__m256i*>(sums + p * kLanes + 8), acc[p][1]);
  }
}

}  // namespace

void run_vnni256(const Tile& tile, const Epilogue& epilogue) {
  using Accumulate = void (*)(const Tile&, int32_t*);
  static constexpr Accumulate kTable[kMostPixels] = {accumulate<1>, accumulate<2>, accumulate<3>,
                                                     accumulate<4>, accumulate<5>, accumulate<6>};
  alignas(32) int32_t sums[kMostPixels * kLanes];
  kTable[tile.pixels - 1](tile, sums);
  finish_avx2(sums, kLanes, tile, epilogue);
}

}  // namespace tsquant::kernels

#endif

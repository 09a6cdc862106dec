#include "kernels/igemm.h"

#if defined(__x86_64__)

// gcc's own AVX512 header reads a variable before it is set, on purpose (gcc bug 105593).
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif
#include <immintrin.h>

#include <cstring>

// Every function here is compiled for AVX512-VNNI whatever the flags of the build are; the table asks has_isa().
#define TSQUANT_VNNI __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")))
#define TSQUANT_VNNI_INLINE \
  __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni"), always_inline)) inline

namespace tsquant::kernels {
namespace {

/// Pixels of a tile, chosen so that the sums, the weights and one broadcast fit into the 32 registers.
constexpr int tile_pixels(int vectors) { return vectors == 4 ? 7 : vectors == 3 ? 8 : vectors == 2 ? 12 : 16; }

// Weights are read 8 steps ahead of their use: about the latency of the second-level cache.
constexpr int kNearPrefetchSteps = 8;

/// acc[p][v] += dot4(x[p], w[v]). The instruction is written out because gcc 12 copies the accumulators of
/// _mm512_dpbusd_epi32 around and spills them, which halves the speed.
template <int P, int V>
TSQUANT_VNNI_INLINE void accumulate(const Tile& t, __m512i (&acc)[P][V]) {
  // 28 sums, one broadcast and three weights fill the registers; the fourth weight is read by each instruction.
  constexpr int kKept = P * V >= 28 ? V - 1 : V;
  const int8_t* w = t.weights;
  const int8_t* ahead = t.prefetch;
  for (int64_t tap = 0; tap < t.taps; ++tap) {
    const uint8_t* x[P];
#pragma GCC unroll 16
    for (int p = 0; p < P; ++p) {
      const int64_t pixel = p < t.pixels ? p : t.pixels - 1;
      const int32_t offset = t.offsets[pixel * t.taps + tap];
      x[p] = static_cast<const uint8_t*>(offset < 0 ? t.padding : t.source) + (offset < 0 ? 0 : offset);
    }
    for (int64_t i = 0; i < t.steps; ++i) {
      __m512i wv[V];
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) {
        if (v < kKept) wv[v] = _mm512_load_si512(w + 64 * v);
        _mm_prefetch(reinterpret_cast<const char*>(w + 64 * (v + kNearPrefetchSteps * V)), _MM_HINT_T0);
      }
      _mm_prefetch(reinterpret_cast<const char*>(ahead), _MM_HINT_T1);
      ahead += t.prefetch_step;
#pragma GCC unroll 16
      for (int p = 0; p < P; ++p) {
        int32_t four;
        std::memcpy(&four, x[p] + 4 * i, 4);
        const __m512i xv = _mm512_set1_epi32(four);
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v) {
          if (v < kKept) {
            asm("vpdpbusd %2, %1, %0" : "+v"(acc[p][v]) : "v"(xv), "v"(wv[v]));
          } else {
            asm("vpdpbusd %2, %1, %0" : "+v"(acc[p][v]) : "v"(xv), "m"(*reinterpret_cast<const __m512i*>(w + 64 * v)));
          }
        }
      }
      w += 64 * V;
    }
  }
}

template <bool Middle>
TSQUANT_VNNI_INLINE __m512i residual(__m512i sums, __m512 m, __m512 b, const uint8_t* other, __mmask16 mask,
                                     const Epilogue& e) {
  __m512 f = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sums), m, b);
  if constexpr (Middle) {
    f = _mm512_roundscale_ps(f, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    f = _mm512_min_ps(_mm512_max_ps(f, _mm512_set1_ps(e.middle_low)), _mm512_set1_ps(e.middle_high));
    f = _mm512_mul_ps(f, _mm512_set1_ps(e.middle_multiplier));
  }
  const __m512 o = _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(mask, other)));
  f = _mm512_fmadd_ps(_mm512_sub_ps(o, _mm512_set1_ps(e.other_zero_point)), _mm512_set1_ps(e.other_multiplier), f);
  return _mm512_cvtps_epi32(f);
}

TSQUANT_VNNI_INLINE __mmask16 lane_mask(int64_t channels, int v) {
  const int64_t left = channels - 16 * v;
  return left >= 16 ? 0xffff : left <= 0 ? 0 : static_cast<__mmask16>((1u << left) - 1);
}

/// Four vectors of a pixel are packed into one 64-byte store: half the shuffles of four separate conversions.
TSQUANT_VNNI_INLINE void store_packed(const __m512i (&r)[4], const Epilogue& e, __mmask64 mask, uint8_t* out) {
  const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  const __m512i zp = _mm512_set1_epi16(static_cast<int16_t>(e.zero_point));
  const __m512i lower = _mm512_adds_epi16(_mm512_packs_epi32(r[0], r[1]), zp);
  const __m512i upper = _mm512_adds_epi16(_mm512_packs_epi32(r[2], r[3]), zp);
  __m512i codes = _mm512_permutexvar_epi32(order, _mm512_packus_epi16(lower, upper));
  codes = _mm512_max_epu8(codes, _mm512_set1_epi8(static_cast<char>(e.low)));
  codes = _mm512_min_epu8(codes, _mm512_set1_epi8(static_cast<char>(e.high)));
  _mm512_mask_storeu_epi8(out, mask, codes);
}

TSQUANT_VNNI_INLINE void store_one(__m512i r, const Epilogue& e, __mmask16 mask, uint8_t* out) {
  r = _mm512_add_epi32(r, _mm512_set1_epi32(e.zero_point));
  r = _mm512_min_epi32(_mm512_max_epi32(r, _mm512_set1_epi32(e.low)), _mm512_set1_epi32(e.high));
  _mm_mask_storeu_epi8(out, mask, _mm512_cvtepi32_epi8(r));
}

template <int P, int V>
TSQUANT_VNNI_INLINE void finish_floats(const Tile& t, const Epilogue& e, __m512i (&acc)[P][V]) {
  const __m512 low = _mm512_set1_ps(e.float_low), high = _mm512_set1_ps(e.float_high);
#pragma GCC unroll 4
  for (int v = 0; v < V; ++v) {
    const __m512 m = _mm512_loadu_ps(e.multiplier + t.first_channel + 16 * v);
    const __m512 b = _mm512_loadu_ps(e.bias + t.first_channel + 16 * v);
    const __mmask16 mask = lane_mask(t.channels, v);
#pragma GCC unroll 16
    for (int p = 0; p < P; ++p) {
      if (p >= t.pixels) break;
      const __m512 f = _mm512_fmadd_ps(_mm512_cvtepi32_ps(acc[p][v]), m, b);
      float* out = e.floats + t.out_pixel(p) * e.pixel_stride + t.first_channel + 16 * v;
      // The operand order keeps a NaN of the bias visible: min and max return their second operand then.
      _mm512_mask_storeu_ps(out, mask, _mm512_min_ps(high, _mm512_max_ps(low, f)));
    }
  }
}

template <int P, int V>
TSQUANT_VNNI_INLINE void finish_activated(const Tile& t, const Epilogue& e, __m512i (&acc)[P][V]) {
  alignas(64) int32_t sums[P * V * kLanes];
#pragma GCC unroll 16
  for (int p = 0; p < P; ++p) {
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) _mm512_store_si512(sums + (p * V + v) * kLanes, acc[p][v]);
  }
  finish_avx512(sums, V * kLanes, t, e);
}

/// What is added before the codes are written.
enum class Sum { kNothing, kResidual, kResidualAfterQuantizing };

template <int P, int V, Sum S>
TSQUANT_VNNI_INLINE void finish_codes(const Tile& t, const Epilogue& e, __m512i (&acc)[P][V]) {
  __m512 m[V], b[V];
#pragma GCC unroll 4
  for (int v = 0; v < V; ++v) {
    m[v] = _mm512_loadu_ps(e.multiplier + t.first_channel + 16 * v);
    b[v] = _mm512_loadu_ps(e.bias + t.first_channel + 16 * v);
  }
  const __mmask64 mask = t.channels >= 64 ? ~__mmask64{0} : (__mmask64{1} << t.channels) - 1;
#pragma GCC unroll 16
  for (int p = 0; p < P; ++p) {
    if (p >= t.pixels) break;
    const int64_t at = t.out_pixel(p) * e.pixel_stride + t.first_channel;
    __m512i r[V];
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) {
      if constexpr (S != Sum::kNothing) {
        r[v] = residual<S == Sum::kResidualAfterQuantizing>(acc[p][v], m[v], b[v], e.other + at + 16 * v,
                                                            lane_mask(t.channels, v), e);
      } else {
        r[v] = _mm512_cvtps_epi32(_mm512_fmadd_ps(_mm512_cvtepi32_ps(acc[p][v]), m[v], b[v]));
      }
    }
    if constexpr (V == 4) {
      store_packed(r, e, mask, e.codes + at);
    } else {
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) store_one(r[v], e, lane_mask(t.channels, v), e.codes + at + 16 * v);
    }
  }
}

template <int P, int V>
TSQUANT_VNNI __attribute__((noinline)) void compute(const Tile& t, const Epilogue& e) {
  __m512i acc[P][V];
#pragma GCC unroll 16
  for (int p = 0; p < P; ++p) {
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) acc[p][v] = _mm512_setzero_si512();
  }
  accumulate<P, V>(t, acc);
  if (e.floats != nullptr) {
    finish_floats<P, V>(t, e, acc);
  } else if (e.activation != Activation::kNone) {
    finish_activated<P, V>(t, e, acc);
  } else if (e.other != nullptr) {
    if (e.middle) {
      finish_codes<P, V, Sum::kResidualAfterQuantizing>(t, e, acc);
    } else {
      finish_codes<P, V, Sum::kResidual>(t, e, acc);
    }
  } else {
    finish_codes<P, V, Sum::kNothing>(t, e, acc);
  }
}

template <int V>
void compute_any(const Tile& t, const Epilogue& e) {
  if (t.pixels == 1) {
    compute<1, V>(t, e);
  } else {
    compute<tile_pixels(V), V>(t, e);
  }
}

}  // namespace

int64_t vnni512_pixels(int64_t channels) { return tile_pixels(static_cast<int>((channels + 15) / 16)); }

void run_vnni512(const Tile& tile, const Epilogue& epilogue) {
  switch (tile.vectors) {
    case 1:
      return compute_any<1>(tile, epilogue);
    case 2:
      return compute_any<2>(tile, epilogue);
    case 3:
      return compute_any<3>(tile, epilogue);
    default:
      return compute_any<4>(tile, epilogue);
  }
}

}  // namespace tsquant::kernels

#endif

#include "kernels/byte_loops.h"

#include <algorithm>
#include <cmath>

#include "kernels/cpu_features.h"

#if defined(__x86_64__)
// gcc's own AVX512 header reads a variable before it is set, on purpose (gcc bug 105593).
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif
#include <immintrin.h>
#endif

namespace tsquant::kernels {
namespace {

uint8_t add_one(uint8_t a, uint8_t b, const AddParams& p) {
  const float fa = static_cast<float>(a - p.zero_point_a) * p.scale_a;
  const float fb = static_cast<float>(b - p.zero_point_b) * p.scale_b;
  const float code = std::nearbyint((fa + fb) * p.inverse_out) + static_cast<float>(p.zero_point);
  return static_cast<uint8_t>(std::min(255.0f, std::max(static_cast<float>(p.low), code)));
}

#if defined(__x86_64__)
#define TSQUANT_AVX512 __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq")))
#define TSQUANT_VBMI __attribute__((target("avx512f,avx512bw,avx512vl,avx512vbmi")))

bool has_vbmi() {
  static const bool value = __builtin_cpu_supports("avx512vbmi") && __builtin_cpu_supports("avx512bw");
  return value;
}

TSQUANT_AVX512 inline __m512 load_floats(const uint8_t* x, __m512i zero_point, __m512 scale) {
  const __m512i wide = _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(x)));
  return _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_sub_epi32(wide, zero_point)), scale);
}

/// The multiplications and the addition must not be contracted to a fused multiply-add, which rounds once less.
TSQUANT_AVX512 __attribute__((optimize("fp-contract=off"))) int64_t add_avx512(const uint8_t* a, const uint8_t* b,
                                                                               int64_t n, const AddParams& p,
                                                                               uint8_t* out) {
  const __m512i za = _mm512_set1_epi32(p.zero_point_a), zb = _mm512_set1_epi32(p.zero_point_b);
  const __m512 sa = _mm512_set1_ps(p.scale_a), sb = _mm512_set1_ps(p.scale_b), inv = _mm512_set1_ps(p.inverse_out);
  const __m512 zp = _mm512_set1_ps(static_cast<float>(p.zero_point));
  const __m512 low = _mm512_set1_ps(static_cast<float>(p.low)), high = _mm512_set1_ps(255.0f);
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) {
    const __m512 sum = _mm512_add_ps(load_floats(a + i, za, sa), load_floats(b + i, zb, sb));
    __m512 code = _mm512_roundscale_ps(_mm512_mul_ps(sum, inv), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    code = _mm512_min_ps(_mm512_max_ps(_mm512_add_ps(code, zp), low), high);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out + i), _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(code)));
  }
  return i;
}

/// Two 128-entry permutations; the top bit of the code chooses between them.
TSQUANT_VBMI int64_t lookup_vbmi(const uint8_t* x, int64_t n, const uint8_t* table, uint8_t* out) {
  const __m512i t0 = _mm512_loadu_si512(table), t1 = _mm512_loadu_si512(table + 64);
  const __m512i t2 = _mm512_loadu_si512(table + 128), t3 = _mm512_loadu_si512(table + 192);
  int64_t i = 0;
  for (; i + 64 <= n; i += 64) {
    const __m512i index = _mm512_loadu_si512(x + i);
    const __m512i lower = _mm512_permutex2var_epi8(t0, index, t1), upper = _mm512_permutex2var_epi8(t2, index, t3);
    _mm512_storeu_si512(out + i, _mm512_mask_blend_epi8(_mm512_movepi8_mask(index), lower, upper));
  }
  return i;
}

TSQUANT_AVX512 int64_t sum_avx512(const uint8_t* x, int64_t pixels, int64_t channels, int32_t* sums) {
  int64_t c = 0;
  for (; c + 16 <= channels; c += 16) {
    __m512i sum = _mm512_setzero_si512();
    for (int64_t p = 0; p < pixels; ++p) {
      const auto* at = reinterpret_cast<const __m128i*>(x + p * channels + c);
      sum = _mm512_add_epi32(sum, _mm512_cvtepu8_epi32(_mm_loadu_si128(at)));
    }
    _mm512_storeu_si512(sums + c, sum);
  }
  return c;
}
#endif

}  // namespace

void add_codes(const uint8_t* a, const uint8_t* b, int64_t n, const AddParams& p, uint8_t* out) {
  int64_t i = 0;
#if defined(__x86_64__)
  if (has_vnni()) i = add_avx512(a, b, n, p, out);
#endif
  for (; i < n; ++i) out[i] = add_one(a[i], b[i], p);
}

void lookup_codes(const uint8_t* x, int64_t n, const uint8_t* table, uint8_t* out) {
  int64_t i = 0;
#if defined(__x86_64__)
  if (has_vbmi()) i = lookup_vbmi(x, n, table, out);
#endif
  for (; i < n; ++i) out[i] = table[x[i]];
}

void sum_pixels(const uint8_t* x, int64_t pixels, int64_t channels, int32_t* sums) {
  int64_t first = 0;
#if defined(__x86_64__)
  if (has_vnni()) first = sum_avx512(x, pixels, channels, sums);
#endif
  std::fill(sums + first, sums + channels, 0);
  for (int64_t p = 0; p < pixels; ++p) {
    for (int64_t c = first; c < channels; ++c) sums[c] += x[p * channels + c];
  }
}

}  // namespace tsquant::kernels

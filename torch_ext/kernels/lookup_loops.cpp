// A table of 256 bytes applied to every byte. Highway compiles this file once per instruction set.
#include "kernels/byte_loops.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/lookup_loops.cpp"
#include "hwy/foreach_target.h"
// The order matters: foreach_target.h first.
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace tsquant::kernels {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

#if HWY_ARCH_X86 && HWY_TARGET != HWY_SCALAR && HWY_TARGET != HWY_EMU128
/// Sixteen byte shuffles of 16 table entries each. A shuffle gives 0 where the index is negative and looks at its low
/// four bits elsewhere. With T[k] the k-th part of the table, the parts hold T[k] ^ T[k - 1]; as the index falls by 16
/// per part (saturating, so that it stays negative), the part k takes part when k <= index / 16, and the exclusive or
/// of those is T[index / 16]. The second half of the table works on the index with its top bit flipped.
HWY_INLINE int64_t lookup_vectors(const uint8_t* x, int64_t n, const uint8_t* parts, uint8_t* out) {
  const hn::ScalableTag<int8_t> d;
  const hn::Repartition<uint8_t, decltype(d)> du;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  const auto step = hn::Set(d, 16), top = hn::Set(d, -128);
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    auto lower = hn::BitCast(d, hn::LoadU(du, x + i));
    auto upper = hn::Xor(lower, top);
    auto result = hn::Zero(d), other = hn::Zero(d);
    for (int k = 0; k < 8; ++k) {
      const auto a = hn::BitCast(d, hn::LoadDup128(du, parts + 16 * k));
      const auto b = hn::BitCast(d, hn::LoadDup128(du, parts + 128 + 16 * k));
      result = hn::Xor(result, hn::TableLookupBytesOr0(a, lower));
      other = hn::Xor(other, hn::TableLookupBytesOr0(b, upper));
      lower = hn::SaturatedSub(lower, step);
      upper = hn::SaturatedSub(upper, step);
    }
    hn::StoreU(hn::BitCast(du, hn::Or(result, other)), du, out + i);
  }
  return i;
}
#else
HWY_INLINE int64_t lookup_vectors(const uint8_t*, int64_t, const uint8_t*, uint8_t*) { return 0; }
#endif

void lookup_target(const uint8_t* x, int64_t x_row, int64_t rows, int64_t n, const uint8_t* table, uint8_t* out,
                   int64_t out_row) {
  alignas(64) uint8_t parts[256];
  for (int i = 0; i < 256; ++i) parts[i] = i % 128 < 16 ? table[i] : table[i] ^ table[i - 16];
  for (int64_t row = 0; row < rows; ++row) {
    const uint8_t* from = x + row * x_row;
    uint8_t* to = out + row * out_row;
    for (int64_t i = lookup_vectors(from, n, parts, to); i < n; ++i) to[i] = table[from[i]];
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace tsquant::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE

#include "kernels/isa.h"

#if defined(__x86_64__)
// gcc's own AVX512 header reads a variable before it is set, on purpose (gcc bug 105593).
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif
#include <immintrin.h>
#endif

namespace tsquant::kernels {

HWY_EXPORT(lookup_target);

namespace {
#if defined(__x86_64__)

/// Highway 1.0.3 has no permutation of bytes across a whole vector. All processors with it have AVX512-VNNI.
bool has_byte_permutation() {
  static const bool present = __builtin_cpu_supports("avx512vbmi");
  return present && has_isa(Isa::kAvx512Vnni);
}

/// Two 128-entry permutations; the top bit of the code chooses between them.
__attribute__((target("avx512f,avx512bw,avx512vl,avx512vbmi"))) void lookup_permuting(const uint8_t* x, int64_t x_row,
                                                                                      int64_t rows, int64_t n,
                                                                                      const uint8_t* table,
                                                                                      uint8_t* out, int64_t out_row) {
  const __m512i t0 = _mm512_loadu_si512(table), t1 = _mm512_loadu_si512(table + 64);
  const __m512i t2 = _mm512_loadu_si512(table + 128), t3 = _mm512_loadu_si512(table + 192);
  for (int64_t row = 0; row < rows; ++row) {
    const uint8_t* from = x + row * x_row;
    uint8_t* to = out + row * out_row;
    for (int64_t i = 0; i < n; i += 64) {
      const __mmask64 mask = n - i >= 64 ? ~__mmask64{0} : (__mmask64{1} << (n - i)) - 1;
      const __m512i index = _mm512_maskz_loadu_epi8(mask, from + i);
      const __m512i lower = _mm512_permutex2var_epi8(t0, index, t1), upper = _mm512_permutex2var_epi8(t2, index, t3);
      _mm512_mask_storeu_epi8(to + i, mask, _mm512_mask_blend_epi8(_mm512_movepi8_mask(index), lower, upper));
    }
  }
}
#endif
}  // namespace

void lookup_bytes(const uint8_t* x, int64_t x_row, int64_t rows, int64_t n, const uint8_t* table, uint8_t* out,
                  int64_t out_row) {
#if defined(__x86_64__)
  if (has_byte_permutation()) return lookup_permuting(x, x_row, rows, n, table, out, out_row);
#endif
  HWY_DYNAMIC_DISPATCH(lookup_target)(x, x_row, rows, n, table, out, out_row);
}

}  // namespace tsquant::kernels
#endif  // HWY_ONCE

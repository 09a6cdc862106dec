// From 32-bit sums to codes or floats, in the order of operations that epilogue.h gives, for the Highway files of this
// folder: compiled once per instruction set.
#if defined(TSQUANT_EPILOGUE_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef TSQUANT_EPILOGUE_INL_H
#undef TSQUANT_EPILOGUE_INL_H
#else
#define TSQUANT_EPILOGUE_INL_H
#endif

#include <cstring>

#include "hwy/highway.h"
#include "kernels/activation-inl.h"
#include "kernels/gemm_tile.h"

#if HWY_TARGET == HWY_SSE4 || HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_AVX3

HWY_BEFORE_NAMESPACE();
namespace tsquant::kernels {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using D32 = hn::ScalableTag<int32_t>;
using DF = hn::ScalableTag<float>;
using D16 = hn::Repartition<int16_t, D32>;
using V32 = hn::Vec<D32>;
using VF = hn::Vec<DF>;

constexpr int kN = HWY_LANES(int32_t);  // lanes of a register

#if HWY_TARGET == HWY_SSE4
/// a * b + c with one rounding, where no instruction does it. The product is exact in double; the sum is rounded to odd
/// there (Boldo and Melquiond, "Emulation of FMA and correctly rounded sums"), so that the second rounding, to float,
/// is right. Infinities and NaN stay what they are.
template <class DD, class H>
HWY_ATTR HWY_INLINE auto fused_half(DD dd, H a, H b, H c) {
  const hn::RebindToSigned<DD> di;
  const hn::Rebind<float, DD> df;
  const auto product = hn::Mul(hn::PromoteTo(dd, a), hn::PromoteTo(dd, b)), addend = hn::PromoteTo(dd, c);
  const auto sum = hn::Add(product, addend), rest = hn::Sub(sum, product);
  const auto error = hn::Add(hn::Sub(product, hn::Sub(sum, rest)), hn::Sub(addend, rest));
  const auto bits = hn::BitCast(di, sum), one = hn::Set(di, 1);
  const auto inexact = hn::And(hn::Ne(error, hn::Zero(dd)), hn::Eq(error, error));
  const auto even = hn::Eq(hn::And(bits, one), hn::Zero(di));
  const auto away = hn::Or(hn::BroadcastSignBit(hn::Xor(hn::BitCast(di, error), bits)), one);
  const auto step = hn::IfThenElseZero(hn::And(hn::RebindMask(di, inexact), even), away);
  return hn::DemoteTo(df, hn::BitCast(dd, hn::Add(bits, step)));
}
#endif

HWY_ATTR HWY_INLINE VF fused(VF a, VF b, VF c) {
#if HWY_TARGET == HWY_SSE4
  const DF d;
  const hn::Half<DF> half;
  const hn::Rebind<double, decltype(half)> dd;
  const auto low = fused_half(dd, hn::LowerHalf(half, a), hn::LowerHalf(half, b), hn::LowerHalf(half, c));
  const auto high = fused_half(dd, hn::UpperHalf(half, a), hn::UpperHalf(half, b), hn::UpperHalf(half, c));
  return hn::Combine(d, high, low);
#else
  return hn::MulAdd(a, b, c);
#endif
}

/// Rounds to the nearest integer. hn::NearestInt also saturates, which no value here needs.
HWY_ATTR HWY_INLINE V32 nearest(VF f) {
#if HWY_TARGET == HWY_SSE4
  return V32{_mm_cvtps_epi32(f.raw)};
#elif HWY_TARGET == HWY_AVX2
  return V32{_mm256_cvtps_epi32(f.raw)};
#else
  return V32{_mm512_cvtps_epi32(f.raw)};
#endif
}

/// What the sums become.
enum class Kind { kCodes, kResidual, kMiddle, kFloats };

/// What residuals need, as copies: a store of codes might change what references show.
struct ResidualConstants {
  VF zero_point, multiplier, middle_low, middle_high, middle_multiplier;

  HWY_ATTR HWY_INLINE explicit ResidualConstants(const Epilogue& e) {
    const DF df;
    zero_point = hn::Set(df, e.other_zero_point);
    multiplier = hn::Set(df, e.other_multiplier);
    middle_low = hn::Set(df, e.middle_low);
    middle_high = hn::Set(df, e.middle_high);
    middle_multiplier = hn::Set(df, e.middle_multiplier);
  }
};

/// The rounded result of one register of channels before the zero point; `n` of them are wanted.
template <Kind K>
HWY_ATTR HWY_INLINE V32 rounded(VF f, const uint8_t* other, int64_t n, const ResidualConstants& residual) {
  if constexpr (K != Kind::kCodes) {
    const D32 d;
    const DF df;
    const hn::Rebind<uint8_t, D32> d8;
    if constexpr (K == Kind::kMiddle) {
      f = hn::Min(residual.middle_high, hn::Max(residual.middle_low, hn::Round(f)));
      f = hn::Mul(f, residual.middle_multiplier);
    }
    uint8_t bytes[kN] = {};
    if (n < kN) {
      std::memcpy(bytes, other, static_cast<size_t>(n));
      other = bytes;
    }
    const VF o = hn::ConvertTo(df, hn::PromoteTo(d, hn::LoadU(d8, other)));
    f = fused(hn::Sub(o, residual.zero_point), residual.multiplier, f);
  }
  return nearest(f);
}

HWY_ATTR HWY_INLINE void write_floats(VF f, int64_t n, const Epilogue& e, float* out) {
  const DF df;
  // In this order a NaN of the bias stays: both return their second operand then.
  f = hn::Min(hn::Set(df, e.float_high), hn::Max(hn::Set(df, e.float_low), f));
  if (n == kN) return hn::StoreU(f, df, out);
  HWY_ALIGN float lanes[kN];
  hn::Store(f, df, lanes);
  std::memcpy(out, lanes, static_cast<size_t>(n) * sizeof(float));
}

HWY_ATTR HWY_INLINE void write_codes(V32 r, int64_t n, const Epilogue& e, uint8_t* out) {
  const D32 d;
  const hn::Rebind<uint8_t, D32> d8;
  r = hn::Min(hn::Set(d, e.high), hn::Max(hn::Set(d, e.low), hn::Add(r, hn::Set(d, e.zero_point))));
  const auto bytes = hn::DemoteTo(d8, r);
  if (n == kN) return hn::StoreU(bytes, d8, out);
  uint8_t lanes[kN];
  hn::StoreU(bytes, d8, lanes);
  std::memcpy(out, lanes, static_cast<size_t>(n));
}

/// One register of channels of all pixels of the tile.
template <Kind K>
HWY_ATTR HWY_INLINE void finish_register(const int32_t* sums, int64_t stride, int64_t c, const Tile& t,
                                         const Epilogue& e) {
  const D32 d;
  const DF df;
  const int64_t n = HWY_MIN(int64_t{kN}, t.channels - c), channel = t.first_channel + c;
  const VF m = hn::LoadU(df, e.multiplier + channel), b = hn::LoadU(df, e.bias + channel);
  const ResidualConstants residual(e);
  for (int64_t p = 0; p < t.pixels; ++p) {
    const int64_t at = t.out_pixel(p) * e.pixel_stride + channel;
    const VF f = fused(hn::ConvertTo(df, hn::LoadU(d, sums + p * stride + c)), m, b);
    if constexpr (K == Kind::kFloats) {
      write_floats(f, n, e, e.floats + at);
    } else {
      write_codes(rounded<K>(f, K == Kind::kCodes ? nullptr : e.other + at, n, residual), n, e, e.codes + at);
    }
  }
}

#if HWY_TARGET == HWY_AVX2
/// Sixteen rounded results as codes. Saturating to 16 bits on the way changes nothing, as what follows clamps to 8.
struct SixteenCodes {
  __m256i zero_point, low, high;

  HWY_ATTR HWY_INLINE explicit SixteenCodes(const Epilogue& e)
      : zero_point(_mm256_set1_epi16(static_cast<int16_t>(e.zero_point))),
        low(_mm256_set1_epi8(static_cast<char>(e.low))),
        high(_mm256_set1_epi8(static_cast<char>(e.high))) {}

  HWY_ATTR HWY_INLINE __m256i words(V32 r0, V32 r1) const {
    return _mm256_adds_epi16(_mm256_packs_epi32(r0.raw, r1.raw), zero_point);
  }

  HWY_ATTR HWY_INLINE void write(V32 r0, V32 r1, uint8_t* out) const {
    const __m256i w = words(r0, r1);
    __m128i codes = _mm_packus_epi16(_mm256_castsi256_si128(w), _mm256_extracti128_si256(w, 1));
    codes = _mm_max_epu8(_mm_shuffle_epi32(codes, 0xd8), _mm256_castsi256_si128(low));
    codes = _mm_min_epu8(codes, _mm256_castsi256_si128(high));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out), codes);
  }

  /// Two pixels.
  HWY_ATTR HWY_INLINE void write(const V32 (&r)[2][2], uint8_t* out0, uint8_t* out1) const {
    const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    __m256i codes = _mm256_packus_epi16(words(r[0][0], r[0][1]), words(r[1][0], r[1][1]));
    codes = _mm256_min_epu8(_mm256_max_epu8(_mm256_permutevar8x32_epi32(codes, order), low), high);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out0), _mm256_castsi256_si128(codes));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out1), _mm256_extracti128_si256(codes, 1));
  }
};

/// The codes of a full panel, sixteen channels at once: half the shuffles.
struct Sixteen {
  VF m0, m1, b0, b1;
  SixteenCodes codes;
  ResidualConstants residual;

  HWY_ATTR HWY_INLINE Sixteen(const Tile& t, const Epilogue& e) : codes(e), residual(e) {
    const DF df;
    m0 = hn::LoadU(df, e.multiplier + t.first_channel);
    m1 = hn::LoadU(df, e.multiplier + t.first_channel + kN);
    b0 = hn::LoadU(df, e.bias + t.first_channel);
    b1 = hn::LoadU(df, e.bias + t.first_channel + kN);
  }

  template <Kind K>
  HWY_ATTR HWY_INLINE void round(const V32 (&sums)[2], const Epilogue& e, int64_t at, V32 (&r)[2]) const {
    const DF df;
    const uint8_t* other = K == Kind::kCodes ? nullptr : e.other + at;
    r[0] = rounded<K>(fused(hn::ConvertTo(df, sums[0]), m0, b0), other, kN, residual);
    r[1] =
        rounded<K>(fused(hn::ConvertTo(df, sums[1]), m1, b1), K == Kind::kCodes ? nullptr : other + kN, kN, residual);
  }

  template <Kind K>
  HWY_ATTR HWY_INLINE void write(V32 sum0, V32 sum1, const Tile& t, const Epilogue& e, int64_t p) const {
    const int64_t at = t.out_pixel(p) * e.pixel_stride + t.first_channel;
    V32 r[2];
    round<K>({sum0, sum1}, e, at, r);
    codes.write(r[0], r[1], e.codes + at);
  }

  /// Neighbouring pixels; `at`: the first channel of the first one in the output.
  template <Kind K, int P>
  HWY_ATTR HWY_INLINE void write(const V32 (&sums)[P][2], const Epilogue& e, int64_t at) const {
    V32 r[2][2];
#pragma GCC unroll 8
    for (int p = 0; p + 1 < P; p += 2, at += 2 * e.pixel_stride) {
      round<K>(sums[p], e, at, r[0]);
      round<K>(sums[p + 1], e, at + e.pixel_stride, r[1]);
      codes.write(r, e.codes + at, e.codes + at + e.pixel_stride);
    }
    if constexpr (P % 2 == 1) {
      round<K>(sums[P - 1], e, at, r[0]);
      codes.write(r[0][0], r[0][1], e.codes + at);
    }
  }
};
#endif

/// Codes of an activation.
template <Activation A>
HWY_ATTR HWY_NOINLINE void finish_activated(const int32_t* sums, int64_t stride, const Tile& t, const Epilogue& e) {
  const D32 d;
  const DF df;
  const Activated<DF> activated(e);
  const auto at = [&](int64_t p) { return t.out_pixel(p) * e.pixel_stride + t.first_channel; };
  const auto result = [&](const int32_t* sum, VF m, VF b, const float* factor) HWY_ATTR {
    return nearest(activated.of<A>(fused(hn::ConvertTo(df, hn::LoadU(d, sum)), m, b), factor));
  };
  const auto factor_at = [&](int64_t c) { return e.factor == nullptr ? nullptr : e.factor + t.first_channel + c; };
#if HWY_TARGET == HWY_AVX2
  if (t.channels == kLanes) {
    const Sixteen sixteen(t, e);
    const float *factor0 = factor_at(0), *factor1 = factor_at(kN);
    for (int64_t p = 0; p < t.pixels; ++p, sums += stride) {
      sixteen.codes.write(result(sums, sixteen.m0, sixteen.b0, factor0),
                          result(sums + kN, sixteen.m1, sixteen.b1, factor1), e.codes + at(p));
    }
    return;
  }
#endif
  for (int64_t c = 0; c < t.channels; c += kN) {
    const int64_t n = HWY_MIN(int64_t{kN}, t.channels - c);
    const VF m = hn::LoadU(df, e.multiplier + t.first_channel + c), b = hn::LoadU(df, e.bias + t.first_channel + c);
    for (int64_t p = 0; p < t.pixels; ++p) {
      write_codes(result(sums + p * stride + c, m, b, factor_at(c)), n, e, e.codes + at(p) + c);
    }
  }
}

template <Kind K>
HWY_ATTR HWY_NOINLINE void finish_kind(const int32_t* sums, int64_t stride, const Tile& t, const Epilogue& e) {
#if HWY_TARGET == HWY_AVX2
  if constexpr (K != Kind::kFloats) {
    if (t.channels == kLanes) {
      const D32 d;
      const Sixteen sixteen(t, e);
      for (int64_t p = 0; p < t.pixels; ++p, sums += stride) {
        sixteen.write<K>(hn::LoadU(d, sums), hn::LoadU(d, sums + kN), t, e, p);
      }
      return;
    }
  }
#endif
  for (int64_t c = 0; c < t.channels; c += kN) finish_register<K>(sums, stride, c, t, e);
}

/// Codes or floats from [pixel][stride] sums, which lie on the boundary of a register.
inline void finish(const int32_t* sums, int64_t stride, const Tile& t, const Epilogue& e) {
  if (e.floats != nullptr) return finish_kind<Kind::kFloats>(sums, stride, t, e);
  if (e.activation != Activation::kNone) {
    return with_activation(e.activation, [&](auto a) { finish_activated<a()>(sums, stride, t, e); });
  }
  if (e.other == nullptr) return finish_kind<Kind::kCodes>(sums, stride, t, e);
  if (e.middle) return finish_kind<Kind::kMiddle>(sums, stride, t, e);
  finish_kind<Kind::kResidual>(sums, stride, t, e);
}

}  // namespace HWY_NAMESPACE
}  // namespace tsquant::kernels
HWY_AFTER_NAMESPACE();

#endif  // HWY_TARGET

#endif  // include guard per target

// Exponentials and rounding of rows. Highway compiles this file once per instruction set.
#include "kernels/softmax_rows.h"

#include <limits>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/softmax_rows_loops.cpp"
#include "hwy/foreach_target.h"
// The order matters: foreach_target.h first.
#include "hwy/highway.h"
#include "kernels/code_vectors-inl.h"

HWY_BEFORE_NAMESPACE();
namespace tsquant::kernels {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using DScore = hn::CappedTag<float, static_cast<size_t>(kScoreLanes)>;
using DScoreBits = hn::RebindToSigned<DScore>;
using VScore = hn::Vec<DScore>;

constexpr int64_t kScoreWidth = hn::MaxLanes(DScore());
constexpr int64_t kScoreRegisters = kScoreLanes / kScoreWidth;

HWY_INLINE hn::Vec<DScoreBits> nearest_bits(VScore v) {
#if TSQUANT_X86_VECTORS
  return nearest(DScoreBits(), v);
#else
  return hn::NearestInt(v);
#endif
}

/// Within the bounds; NaN is the lower one.
template <class V>
HWY_INLINE V within(V v, V low, V high) {
  return hn::Min(hn::IfThenElse(hn::Ge(v, low), v, low), high);
}

/// exp(x) for x <= 0: 2^n exp(r) with |r| <= ln(2) / 2, by the Taylor polynomial, whose error there is 6e-9. All
/// registers step by step, so that none waits for its own last step.
HWY_INLINE void exponential(VScore (&x)[kScoreRegisters]) {
  const DScore d;
  const DScoreBits bits;
  constexpr float kInverseLn2 = 1.44269504f, kLowest = -87.0f;
  constexpr float kLn2High = 0.693359375f, kLn2Low = -2.12194440e-4f;  // the products with n of the first are exact
  constexpr float kTaylor[] = {1.0f / 5040, 1.0f / 720, 1.0f / 120, 1.0f / 24, 1.0f / 6, 0.5f, 1.0f, 1.0f};
  const VScore lowest = hn::Set(d, kLowest);
  hn::Vec<DScoreBits> power[kScoreRegisters];
  VScore r[kScoreRegisters], e[kScoreRegisters];
#pragma GCC unroll 16
  for (int64_t u = 0; u < kScoreRegisters; ++u) {
#if TSQUANT_X86_VECTORS  // NaN becomes the second operand, and what is too large for a power stands beside a NaN
    const VScore bounded = hn::Max(x[u], lowest);
#else
    const VScore bounded = within(x[u], lowest, hn::Zero(d));
#endif
    power[u] = nearest_bits(hn::Mul(bounded, hn::Set(d, kInverseLn2)));
    const VScore n = hn::ConvertTo(d, power[u]);
    r[u] = hn::Sub(x[u], rounded(hn::Mul(n, hn::Set(d, kLn2High))));
    r[u] = hn::Sub(r[u], rounded(hn::Mul(n, hn::Set(d, kLn2Low))));
    e[u] = hn::Set(d, kTaylor[0]);
  }
#pragma GCC unroll 8
  for (int i = 1; i < 8; ++i) {
#pragma GCC unroll 16
    for (int64_t u = 0; u < kScoreRegisters; ++u) e[u] = hn::Add(rounded(hn::Mul(e[u], r[u])), hn::Set(d, kTaylor[i]));
  }
#pragma GCC unroll 16
  for (int64_t u = 0; u < kScoreRegisters; ++u) {
    const auto scale = hn::ShiftLeft<23>(hn::Add(power[u], hn::Set(bits, 127)));
    // In this order a NaN stays.
    x[u] = hn::IfThenZeroElse(hn::Lt(x[u], lowest), hn::Mul(e[u], hn::BitCast(d, scale)));
  }
}

/// One row, with copies of what all rows share: a store of scores might change what a reference shows.
struct OneRow {
  float* scores;
  const float* masks[kMostMasks];
  int64_t mask_count, n, padded;
  float factor;

  HWY_INLINE OneRow(const ScoreRows& rows, int64_t row)
      : scores(static_cast<float*>(rows.values) + row * rows.row),
        mask_count(rows.mask_count),
        n(rows.n),
        padded(rows.padded),
        factor(rows.factor) {
    for (int64_t m = 0; m < mask_count; ++m) masks[m] = rows.masks[m].values + row * rows.masks[m].row;
  }

  template <bool Sums>
  HWY_INLINE VScore load(int64_t i) const {
    const DScore d;
    if constexpr (!Sums) return hn::LoadU(d, scores + i);
    return hn::ConvertTo(d, hn::LoadU(DScoreBits(), reinterpret_cast<const int32_t*>(scores) + i));
  }

  /// Scores with their factor and masks, -inf behind the last, in place. Returns the largest.
  template <bool Sums>
  HWY_INLINE float finish_scores() const {
    const DScore d;
    const VScore times = hn::Set(d, factor);
    constexpr float kNothing = -std::numeric_limits<float>::infinity();
    VScore largest = hn::Set(d, kNothing);
    int64_t i = 0;
    for (; i + kScoreWidth <= n; i += kScoreWidth) {
      VScore score = rounded(hn::Mul(load<Sums>(i), times));
      for (int64_t m = 0; m < mask_count; ++m) score = hn::Add(score, hn::LoadU(d, masks[m] + i));
      largest = hn::Max(largest, score);
      hn::StoreU(score, d, scores + i);
    }
    float most = hn::GetLane(hn::MaxOfLanes(d, largest));
    for (; i < n; ++i) {
      float score = Sums ? static_cast<float>(reinterpret_cast<const int32_t*>(scores)[i]) : scores[i];
      score *= factor;
      for (int64_t m = 0; m < mask_count; ++m) score += masks[m][i];
      if (score > most) most = score;
      scores[i] = score;
    }
    for (; i < padded; ++i) scores[i] = kNothing;
    return most;
  }

  /// Exponentials of the finished scores, in place. Returns their sum.
  HWY_INLINE float exponentiate(float most) const {
    const DScore d;
    const VScore largest = hn::Set(d, most);
    VScore sums[kScoreRegisters];
    for (VScore& sum : sums) sum = hn::Zero(d);
    for (int64_t i = 0; i < padded; i += kScoreLanes) {
      VScore x[kScoreRegisters];
#pragma GCC unroll 16
      for (int64_t u = 0; u < kScoreRegisters; ++u) {
        x[u] = hn::Sub(hn::LoadU(d, scores + i + u * kScoreWidth), largest);
      }
      exponential(x);
#pragma GCC unroll 16
      for (int64_t u = 0; u < kScoreRegisters; ++u) {
        hn::StoreU(x[u], d, scores + i + u * kScoreWidth);
        sums[u] = hn::Add(sums[u], x[u]);
      }
    }
    HWY_ALIGN float lanes[kScoreLanes];
    for (int64_t u = 0; u < kScoreRegisters; ++u) hn::Store(sums[u], d, lanes + u * kScoreWidth);
    for (int64_t half = kScoreLanes / 2; half > 0; half /= 2) {
      for (int64_t i = 0; i < half; ++i) lanes[i] += lanes[i + half];
    }
    return lanes[0];
  }
};

void exponentials_target(const ScoreRows& scores, float* totals) {
  for (int64_t i = 0; i < scores.rows; ++i) {
    const OneRow row(scores, i);
    totals[i] = row.exponentiate(scores.sums ? row.finish_scores<true>() : row.finish_scores<false>());
  }
}

void round_rows_target(const SumRows<float>& x, const RoundedRange& range, int16_t* out) {
  const DScore d;
  const hn::Rebind<int16_t, DScore> narrow;
  const VScore low = hn::Set(d, range.low), high = hn::Set(d, range.high);
  const int64_t n = x.n, distance = x.row;
  const float* sums = x.sums;
  for (int64_t row = 0; row < x.rows; ++row, sums += distance, out += distance) {
    const VScore times = hn::Set(d, x.factors[row]);
    for (int64_t i = 0; i < n; i += kScoreWidth) {
      const VScore v = within(hn::Mul(hn::LoadU(d, sums + i), times), low, high);
      hn::StoreU(hn::DemoteTo(narrow, nearest_bits(v)), narrow, out + i);
    }
  }
}

template <class D>
HWY_INLINE hn::Vec<D> load_sums(D d, const float* sums) {
  return hn::LoadU(d, sums);
}
template <class D>
HWY_INLINE hn::Vec<D> load_sums(D d, const int32_t* sums) {
  return hn::ConvertTo(d, hn::LoadU(hn::RebindToSigned<D>(), sums));
}

template <typename Sum>
struct ScaledBlock {
  const Sum* sums;
  float factor;
  float* out;

  template <class D>
  HWY_INLINE void operator()(D d, int64_t i) const {
    hn::StoreU(hn::Mul(load_sums(d, sums + i), hn::Set(d, factor)), d, out + i);
  }
};

template <typename Sum, typename Code>
struct QuantizedBlock {
  const Sum* sums;
  float factor;
  RoundedRange range;  // a copy, because a store of bytes might change what a reference shows
  uint8_t* out;

  template <class D>
  HWY_INLINE void operator()(D d, int64_t i) const {
    const auto zero_point = hn::Set(hn::RebindToSigned<D>(), range.zero_point);
    store_codes<Code>(d, hn::Mul(load_sums(d, sums + i), hn::Set(d, factor)), hn::Set(d, range.low),
                      hn::Set(d, range.high), zero_point, out + i);
  }
};

template <typename Sum>
void scale_sums(const SumRows<Sum>& x, float* out, int64_t out_row) {
  for (int64_t row = 0; row < x.rows; ++row) {
    cover<float>(x.n, ScaledBlock<Sum>{x.sums + row * x.row, x.factors[row], out + row * out_row});
  }
}

template <typename Code, typename Sum>
void quantize_sums(const SumRows<Sum>& x, const RoundedRange& range, uint8_t* out, int64_t out_row) {
  for (int64_t row = 0; row < x.rows; ++row) {
    cover<float>(x.n, QuantizedBlock<Sum, Code>{x.sums + row * x.row, x.factors[row], range, out + row * out_row});
  }
}

void scale_integers(const SumRows<int32_t>& x, float* out, int64_t out_row) { scale_sums(x, out, out_row); }
void scale_floats(const SumRows<float>& x, float* out, int64_t out_row) { scale_sums(x, out, out_row); }
void quantize_integers(const SumRows<int32_t>& x, const RoundedRange& range, bool is_signed, uint8_t* out,
                       int64_t out_row) {
  is_signed ? quantize_sums<int8_t>(x, range, out, out_row) : quantize_sums<uint8_t>(x, range, out, out_row);
}
void quantize_floats(const SumRows<float>& x, const RoundedRange& range, bool is_signed, uint8_t* out,
                     int64_t out_row) {
  is_signed ? quantize_sums<int8_t>(x, range, out, out_row) : quantize_sums<uint8_t>(x, range, out, out_row);
}

}  // namespace HWY_NAMESPACE
}  // namespace tsquant::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace tsquant::kernels {
HWY_EXPORT(exponentials_target);
HWY_EXPORT(round_rows_target);
HWY_EXPORT(scale_integers);
HWY_EXPORT(scale_floats);
HWY_EXPORT(quantize_integers);
HWY_EXPORT(quantize_floats);

void exponentials(const ScoreRows& scores, float* totals) { HWY_DYNAMIC_DISPATCH(exponentials_target)(scores, totals); }
void round_rows(const SumRows<float>& x, const RoundedRange& range, int16_t* out) {
  HWY_DYNAMIC_DISPATCH(round_rows_target)(x, range, out);
}
void scale_rows(const SumRows<int32_t>& x, float* out, int64_t out_row) {
  HWY_DYNAMIC_DISPATCH(scale_integers)(x, out, out_row);
}
void scale_rows(const SumRows<float>& x, float* out, int64_t out_row) {
  HWY_DYNAMIC_DISPATCH(scale_floats)(x, out, out_row);
}
void quantize_rows(const SumRows<int32_t>& x, const RoundedRange& range, bool is_signed, uint8_t* out,
                   int64_t out_row) {
  HWY_DYNAMIC_DISPATCH(quantize_integers)(x, range, is_signed, out, out_row);
}
void quantize_rows(const SumRows<float>& x, const RoundedRange& range, bool is_signed, uint8_t* out, int64_t out_row) {
  HWY_DYNAMIC_DISPATCH(quantize_floats)(x, range, is_signed, out, out_row);
}
}  // namespace tsquant::kernels
#endif

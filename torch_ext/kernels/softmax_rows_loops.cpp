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

/// exp(x) for x <= 0: 2^n exp(r) with |r| <= ln(2) / 2, by the Taylor polynomial, whose error there is 6e-9.
HWY_INLINE VScore exponential(VScore x) {
  const DScore d;
  const DScoreBits bits;
  constexpr float kInverseLn2 = 1.44269504f, kLowest = -87.0f;
  constexpr float kLn2High = 0.693359375f, kLn2Low = -2.12194440e-4f;  // the products with n of the first are exact
  const VScore lowest = hn::Set(d, kLowest);
  const VScore n = hn::Round(hn::Mul(within(x, lowest, hn::Zero(d)), hn::Set(d, kInverseLn2)));
  VScore r = hn::Sub(x, rounded(hn::Mul(n, hn::Set(d, kLn2High))));
  r = hn::Sub(r, rounded(hn::Mul(n, hn::Set(d, kLn2Low))));
  constexpr float kTaylor[] = {1.0f / 5040, 1.0f / 720, 1.0f / 120, 1.0f / 24, 1.0f / 6, 0.5f, 1.0f, 1.0f};
  VScore e = hn::Set(d, kTaylor[0]);
#pragma GCC unroll 8
  for (int i = 1; i < 8; ++i) e = hn::Add(rounded(hn::Mul(e, r)), hn::Set(d, kTaylor[i]));
  const auto power = hn::ShiftLeft<23>(hn::Add(nearest_bits(n), hn::Set(bits, 127)));
  // In this order a NaN stays.
  return hn::IfThenZeroElse(hn::Lt(x, lowest), hn::Mul(e, hn::BitCast(d, power)));
}

HWY_INLINE VScore score_at(const ScoreRow& row, int64_t i) {
  const DScore d;
  if (!row.sums) return hn::LoadU(d, static_cast<const float*>(row.values) + i);
  return hn::ConvertTo(d, hn::LoadU(DScoreBits(), static_cast<const int32_t*>(row.values) + i));
}

/// Scores with their factor and masks, -inf behind the last, in place. Returns the largest.
HWY_INLINE float finish_scores(const ScoreRow& row) {
  const DScore d;
  const VScore factor = hn::Set(d, row.factor);
  auto* scores = static_cast<float*>(row.values);
  constexpr float kNothing = -std::numeric_limits<float>::infinity();
  VScore largest = hn::Set(d, kNothing);
  int64_t i = 0;
  for (; i + kScoreWidth <= row.n; i += kScoreWidth) {
    VScore score = rounded(hn::Mul(score_at(row, i), factor));
    for (int64_t m = 0; m < row.mask_count; ++m) score = hn::Add(score, hn::LoadU(d, row.masks[m] + i));
    largest = hn::Max(largest, score);
    hn::StoreU(score, d, scores + i);
  }
  float most = hn::GetLane(hn::MaxOfLanes(d, largest));
  for (; i < row.n; ++i) {
    float score = row.sums ? static_cast<float>(static_cast<const int32_t*>(row.values)[i]) : scores[i];
    score *= row.factor;
    for (int64_t m = 0; m < row.mask_count; ++m) score += row.masks[m][i];
    if (score > most) most = score;
    scores[i] = score;
  }
  for (; i < row.padded; ++i) scores[i] = kNothing;
  return most;
}

float exponentials_target(const ScoreRow& row) {
  const DScore d;
  const VScore largest = hn::Set(d, finish_scores(row));
  auto* scores = static_cast<float*>(row.values);
  VScore sums[kScoreRegisters];
  for (VScore& sum : sums) sum = hn::Zero(d);
  for (int64_t i = 0; i < row.padded; i += kScoreLanes) {
#pragma GCC unroll 16
    for (int64_t u = 0; u < kScoreRegisters; ++u) {
      float* at = scores + i + u * kScoreWidth;
      const VScore e = exponential(hn::Sub(hn::LoadU(d, at), largest));
      hn::StoreU(e, d, at);
      sums[u] = hn::Add(sums[u], e);
    }
  }
  HWY_ALIGN float lanes[kScoreLanes];
  for (int64_t u = 0; u < kScoreRegisters; ++u) hn::Store(sums[u], d, lanes + u * kScoreWidth);
  for (int64_t half = kScoreLanes / 2; half > 0; half /= 2) {
    for (int64_t i = 0; i < half; ++i) lanes[i] += lanes[i + half];
  }
  return lanes[0];
}

void round_row_target(const float* x, int64_t n, float factor, const RoundedRange& range, int16_t* out) {
  const DScore d;
  const hn::Rebind<int16_t, DScore> narrow;
  const VScore times = hn::Set(d, factor), low = hn::Set(d, range.low), high = hn::Set(d, range.high);
  for (int64_t i = 0; i < n; i += kScoreWidth) {
    const VScore v = within(hn::Mul(hn::LoadU(d, x + i), times), low, high);
    hn::StoreU(hn::DemoteTo(narrow, nearest_bits(v)), narrow, out + i);
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
void quantize_sums(const Sum* sums, int64_t n, float factor, const RoundedRange& range, bool is_signed, uint8_t* out) {
  if (is_signed) {
    cover<float>(n, QuantizedBlock<Sum, int8_t>{sums, factor, range, out});
  } else {
    cover<float>(n, QuantizedBlock<Sum, uint8_t>{sums, factor, range, out});
  }
}

void scale_integers(const int32_t* sums, int64_t n, float factor, float* out) {
  cover<float>(n, ScaledBlock<int32_t>{sums, factor, out});
}
void scale_floats(const float* sums, int64_t n, float factor, float* out) {
  cover<float>(n, ScaledBlock<float>{sums, factor, out});
}
void quantize_integers(const int32_t* sums, int64_t n, float factor, const RoundedRange& range, bool is_signed,
                       uint8_t* out) {
  quantize_sums(sums, n, factor, range, is_signed, out);
}
void quantize_floats(const float* sums, int64_t n, float factor, const RoundedRange& range, bool is_signed,
                     uint8_t* out) {
  quantize_sums(sums, n, factor, range, is_signed, out);
}

}  // namespace HWY_NAMESPACE
}  // namespace tsquant::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace tsquant::kernels {
HWY_EXPORT(exponentials_target);
HWY_EXPORT(round_row_target);
HWY_EXPORT(scale_integers);
HWY_EXPORT(scale_floats);
HWY_EXPORT(quantize_integers);
HWY_EXPORT(quantize_floats);

float exponentials(const ScoreRow& row) { return HWY_DYNAMIC_DISPATCH(exponentials_target)(row); }
void round_row(const float* x, int64_t n, float factor, const RoundedRange& range, int16_t* out) {
  HWY_DYNAMIC_DISPATCH(round_row_target)(x, n, factor, range, out);
}
void scale_row(const int32_t* sums, int64_t n, float factor, float* out) {
  HWY_DYNAMIC_DISPATCH(scale_integers)(sums, n, factor, out);
}
void scale_row(const float* sums, int64_t n, float factor, float* out) {
  HWY_DYNAMIC_DISPATCH(scale_floats)(sums, n, factor, out);
}
void quantize_row(const int32_t* sums, int64_t n, float factor, const RoundedRange& range, bool is_signed,
                  uint8_t* out) {
  HWY_DYNAMIC_DISPATCH(quantize_integers)(sums, n, factor, range, is_signed, out);
}
void quantize_row(const float* sums, int64_t n, float factor, const RoundedRange& range, bool is_signed, uint8_t* out) {
  HWY_DYNAMIC_DISPATCH(quantize_floats)(sums, n, factor, range, is_signed, out);
}
}  // namespace tsquant::kernels
#endif

// Depthwise convolution. Highway compiles this file once per instruction set.
//
// The channels are the vector. Two taps of 16-bit codes are interleaved and multiplied with interleaved weights; the
// instruction adds the two products exactly in 32 bits. Taps are paired down the columns of the kernel, and along the
// row for a last single row, so that the interleaved codes of one input column serve all outputs that see it:
//
//   3x3:  a b c      pairs (a d) (b e) (c f) (g h) (i -)
//         d e f
//         g h i
#include "kernels/depthwise_hwy.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "kernels/activation.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/depthwise_hwy.cpp"
#include "hwy/foreach_target.h"
// The order matters: foreach_target.h first.
#include "hwy/highway.h"
#include "kernels/activation-inl.h"
#include "kernels/code_vectors-inl.h"

HWY_BEFORE_NAMESPACE();
namespace tsquant::kernels {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

/// Taps that lie in one output pixel's window, as pointers to the first channel of the image.
using Pointers = std::vector<const uint8_t*>;

inline const uint8_t* image_row(const DepthwiseCall& c, int64_t n, int64_t y) {
  const ConvGeometry& g = c.g;
  if (y < 0 || y >= g.height) return c.padding_row;
  return c.source + (n * g.height + y) * g.width * g.channels;
}

/// Pointers of the taps of output pixel (oy, ox), in the order of plan->taps.
inline void point_to_taps(const DepthwiseCall& c, int64_t n, int64_t oy, int64_t ox, Pointers& pointers) {
  const ConvGeometry& g = c.g;
  pointers.clear();
  for (const int32_t tap : c.plan->taps) {
    const int64_t row = std::max(tap, 0) / g.kernel_w, column = std::max(tap, 0) % g.kernel_w;
    const int64_t x = ox * g.stride_w - g.pad_w + column * g.dilation_w;
    const bool inside = x >= 0 && x < g.width;
    const uint8_t* line = image_row(c, n, oy * g.stride_h - g.pad_h + row * g.dilation_h);
    pointers.push_back(inside ? line + x * g.channels : c.padding_row);
  }
}

// ---- plain C++: for processors without vectors and for fewer channels than the smallest vector

inline void finish_plain(const Epilogue& e, int32_t sum, int64_t channel, int64_t at) {
  float f = std::fma(static_cast<float>(sum), e.multiplier[channel], e.bias[channel]);
  if (e.floats != nullptr) {
    const float raised = f < e.float_low ? e.float_low : f;
    e.floats[at] = raised > e.float_high ? e.float_high : raised;
    return;
  }
  if (e.activation != Activation::kNone) {
    e.codes[at] = activated_code(f, channel, e);
    return;
  }
  if (e.other != nullptr) {
    if (e.middle) {
      const float rounded = std::nearbyint(f);
      f = std::min(std::max(rounded, e.middle_low), e.middle_high) * e.middle_multiplier;
    }
    f = std::fma(static_cast<float>(e.other[at]) - e.other_zero_point, e.other_multiplier, f);
  }
  const double code = static_cast<double>(std::nearbyint(f)) + e.zero_point;
  e.codes[at] = static_cast<uint8_t>(std::min<double>(e.high, std::max<double>(e.low, code)));
}

inline void plain_pixel(const DepthwiseCall& c, const Pointers& pointers, int64_t at) {
  const int64_t channels = c.g.channels;
  for (int64_t k = 0; k < channels; ++k) {
    int32_t sum = 0;
    for (size_t t = 0; t < pointers.size(); ++t) {
      const int32_t tap = c.plan->taps[t];
      if (tap >= 0) sum += int32_t{pointers[t][k]} * c.plan->plain[static_cast<size_t>(tap * channels + k)];
    }
    finish_plain(c.e, sum, k, at + k);
  }
}

inline void plain_rows(const DepthwiseCall& c, int64_t begin, int64_t end) {
  const int64_t height = c.g.out_height(), width = c.g.out_width();
  Pointers pointers;
  for (int64_t i = begin; i < end; ++i) {
    for (int64_t ox = 0; ox < width; ++ox) {
      point_to_taps(c, i / height, i % height, ox, pointers);
      plain_pixel(c, pointers, (i * width + ox) * c.e.pixel_stride);
    }
  }
}

#if HWY_TARGET == HWY_SCALAR || HWY_TARGET == HWY_EMU128  // which compilers call vectors differs
DepthwiseLoops depthwise_loops(int64_t) { return {0, plain_rows}; }
#else

// ---- vectors

/// Sums of the channels of one block and one pixel, in the order that interleaving leaves: within each 128 bits of the
/// codes the lower four channels are in `lower`, the upper four in `upper`.
template <class D16>
struct Sums {
  hn::Vec<hn::RepartitionToWide<D16> > lower, upper;
};

/// x * m + b rounded once.
template <class D, class V>
HWY_INLINE V fused(D d, V x, V m, V b) {
#if HWY_TARGET == HWY_SSSE3 || HWY_TARGET == HWY_SSE4
  alignas(16) float xs[4], ms[4], bs[4];
  hn::Store(x, d, xs);
  hn::Store(m, d, ms);
  hn::Store(b, d, bs);
  for (size_t i = 0; i < hn::Lanes(d); ++i) xs[i] = std::fma(xs[i], ms[i], bs[i]);
  return hn::Load(d, xs);
#else
  (void)d;
  return hn::MulAdd(x, m, b);
#endif
}

/// Where the epilogue of a block finds its parameters.
struct BlockEpilogue {
  const Epilogue& e;
  const float* multiplier;  // [lower][upper]
  const float* bias;
  const float* factor;  // or null
  int64_t first_channel;
};

template <class D16>
struct Finish {
  using D32 = hn::RepartitionToWide<D16>;
  using DF = hn::Rebind<float, D32>;
  using DQ = hn::Rebind<uint8_t, D16>;
  using VF = hn::Vec<DF>;

  // Copies: a store of bytes might change what references show.
  Epilogue e;
  VF m0, m1, b0, b1;
  const BlockEpilogue* whole;

  HWY_INLINE explicit Finish(const BlockEpilogue& block) : e(block.e), whole(&block) {
    const DF df;
    const size_t half = hn::Lanes(df);
    m0 = hn::LoadU(df, block.multiplier);
    m1 = hn::LoadU(df, block.multiplier + half);
    b0 = hn::LoadU(df, block.bias);
    b1 = hn::LoadU(df, block.bias + half);
  }

  HWY_INLINE VF lower(const Sums<D16>& s) const { return fused(DF(), hn::ConvertTo(DF(), s.lower), m0, b0); }
  HWY_INLINE VF upper(const Sums<D16>& s) const { return fused(DF(), hn::ConvertTo(DF(), s.upper), m1, b1); }

  HWY_INLINE void codes(VF f0, VF f1, int64_t at) const {
    const D16 d16;
    const DQ dq;
    // Saturation to 16 bits keeps the order, and every sum beyond it is clamped below anyway.
    const auto both = hn::ReorderDemote2To(d16, nearest(D32(), f0), nearest(D32(), f1));
    const auto moved = hn::SaturatedAdd(both, hn::Set(d16, static_cast<int16_t>(e.zero_point)));
    const auto low = hn::Set(dq, static_cast<uint8_t>(e.low)), high = hn::Set(dq, static_cast<uint8_t>(e.high));
    hn::StoreU(hn::Min(hn::Max(hn::DemoteTo(dq, moved), low), high), dq, e.codes + at);
  }

  HWY_INLINE VF through_middle(VF f) const {
    const DF df;
    const VF bounded = hn::Min(hn::Max(hn::Round(f), hn::Set(df, e.middle_low)), hn::Set(df, e.middle_high));
    return hn::Mul(bounded, hn::Set(df, e.middle_multiplier));
  }

  HWY_INLINE VF add_other(VF f, hn::Vec<D32> other) const {
    const DF df;
    const VF centred = hn::Sub(hn::ConvertTo(df, other), hn::Set(df, e.other_zero_point));
    return fused(df, centred, hn::Set(df, e.other_multiplier), f);
  }

  HWY_INLINE void residual(VF f0, VF f1, int64_t at) const {
    const D16 d16;
    const D32 d32;
    if (e.middle) {
      f0 = through_middle(f0);
      f1 = through_middle(f1);
    }
    const auto other = hn::PromoteTo(d16, hn::LoadU(DQ(), e.other + at)), zero = hn::Zero(d16);
    codes(add_other(f0, hn::BitCast(d32, hn::InterleaveLower(d16, other, zero))),
          add_other(f1, hn::BitCast(d32, hn::InterleaveUpper(d16, other, zero))), at);
  }

  /// The order of the operands keeps a NaN of the bias visible.
  HWY_INLINE void floats(VF f0, VF f1, int64_t at) const {
    const DF df;
    const VF low = hn::Set(df, e.float_low), high = hn::Set(df, e.float_high);
    const size_t half = hn::Lanes(df);
    float values[2 * hn::MaxLanes(DF())];
    hn::StoreU(hn::Min(high, hn::Max(low, f0)), df, values);
    hn::StoreU(hn::Min(high, hn::Max(low, f1)), df, values + half);
    for (size_t i = 0; i < half; i += 4) {
      std::memcpy(e.floats + at + 2 * i, values + i, 4 * sizeof(float));
      std::memcpy(e.floats + at + 2 * i + 4, values + half + i, 4 * sizeof(float));
    }
  }
};

/// Residuals and float results are rare here, so they are not inlined into the loops. By value: the loops keep their
/// copies in registers.
template <class D16, class V32>
HWY_NOINLINE void finish_other_forms(Finish<D16> f, V32 lower, V32 upper, int64_t at) {
  const Sums<D16> s = {lower, upper};
  if (f.e.floats != nullptr) {
    f.floats(f.lower(s), f.upper(s), at);
  } else {
    f.residual(f.lower(s), f.upper(s), at);
  }
}

/// Activated results of neighbouring pixels.
template <class D16, Activation A>
HWY_NOINLINE void finish_activated(const BlockEpilogue& b, const Sums<D16>* s, int pixels, int64_t at) {
  using DF = typename Finish<D16>::DF;
  const Finish<D16> f(b);
  const Activated<DF> activated(f.e);
  const float* upper = b.factor == nullptr ? nullptr : b.factor + hn::Lanes(DF());
  for (int p = 0; p < pixels; ++p, at += f.e.pixel_stride) {
    f.codes(activated.template of<A>(f.lower(s[p]), b.factor), activated.template of<A>(f.upper(s[p]), upper), at);
  }
}

/// The results of T neighbouring pixels.
template <class D16, int T>
HWY_INLINE void finish(const Finish<D16>& f, const Sums<D16> (&s)[T], int64_t at) {
  if (f.e.activation != Activation::kNone) {
    with_activation(f.e.activation, [&](auto a) { finish_activated<D16, a()>(*f.whole, s, T, at); });
  } else if (f.e.floats == nullptr && f.e.other == nullptr) {
#pragma GCC unroll 8
    for (int p = 0; p < T; ++p) f.codes(f.lower(s[p]), f.upper(s[p]), at + p * f.e.pixel_stride);
  } else {
#pragma GCC unroll 8
    for (int p = 0; p < T; ++p) finish_other_forms<D16>(f, s[p].lower, s[p].upper, at + p * f.e.pixel_stride);
  }
}

template <class D16>
HWY_INLINE hn::Vec<D16> load_codes(D16 d16, const uint8_t* x) {
  return hn::PromoteTo(d16, hn::LoadU(hn::Rebind<uint8_t, D16>(), x));
}

/// s += codes of two taps times their weights.
template <class D16>
HWY_INLINE void multiply_pair(D16 d16, hn::Vec<D16> lower, hn::Vec<D16> upper, const int16_t* w, Sums<D16>& s) {
  const hn::RepartitionToWide<D16> d32;
  auto unused = hn::Zero(d32);
  // Kept in this order: gcc would add products to each other first, and run out of registers.
  s.lower = in_register(hn::ReorderWidenMulAccumulate(d32, lower, hn::LoadU(d16, w), s.lower, unused));
  s.upper = in_register(hn::ReorderWidenMulAccumulate(d32, upper, hn::LoadU(d16, w + hn::Lanes(d16)), s.upper, unused));
}

/// One pixel from pointers to its taps: any kernel, dilation and position.
template <class D16>
HWY_NOINLINE void pixel_of_block(const Pointers& taps, const int16_t* w, const BlockEpilogue& b, int64_t at) {
  const D16 d16;
  const hn::RepartitionToWide<D16> d32;
  Sums<D16> s[1] = {{hn::Zero(d32), hn::Zero(d32)}};
  for (size_t t = 0; t < taps.size(); t += 2, w += 2 * hn::Lanes(d16)) {
    const auto x = load_codes(d16, taps[t] + b.first_channel), y = load_codes(d16, taps[t + 1] + b.first_channel);
    multiply_pair(d16, hn::InterleaveLower(d16, x, y), hn::InterleaveUpper(d16, x, y), w, s[0]);
  }
  finish(Finish<D16>(b), s, at);
}

/// T neighbouring pixels of a row whose windows lie inside the image from left to right. rows: the input rows at the
/// first tap of the first pixel.
template <class D16, int K, int Stride, int T>
HWY_INLINE void pixels(const uint8_t* const (&rows)[K], int64_t step, const int16_t* w, const Finish<D16>& f,
                       int64_t at) {
  const D16 d16;
  const hn::RepartitionToWide<D16> d32;
  constexpr int kColumns = (T - 1) * Stride + K;
  const auto weights_of_pair = 2 * hn::Lanes(d16);
  Sums<D16> s[T];
#pragma GCC unroll 8
  for (int p = 0; p < T; ++p) s[p] = {hn::Zero(d32), hn::Zero(d32)};
#pragma GCC unroll 16
  for (int j = 0; j < kColumns; ++j) {
#pragma GCC unroll 4
    for (int v = 0; v < K / 2; ++v) {
      const auto x = load_codes(d16, rows[2 * v] + j * step), y = load_codes(d16, rows[2 * v + 1] + j * step);
      const auto lower = hn::InterleaveLower(d16, x, y), upper = hn::InterleaveUpper(d16, x, y);
#pragma GCC unroll 8
      for (int p = 0; p < T; ++p) {
        const int k = j - Stride * p;
        if (k >= 0 && k < K) multiply_pair(d16, lower, upper, w + (v * K + k) * weights_of_pair, s[p]);
      }
    }
    if (Stride == 2 && j % 2 == 1) continue;
    // The pair of a window's last column has no second tap: its weight is 0, and the column may end the image.
    const auto x = load_codes(d16, rows[K - 1] + j * step);
    const auto y = j + 1 < kColumns ? load_codes(d16, rows[K - 1] + (j + 1) * step) : x;
    const auto lower = hn::InterleaveLower(d16, x, y), upper = hn::InterleaveUpper(d16, x, y);
#pragma GCC unroll 8
    for (int p = 0; p < T; ++p) {
      const int k = j - Stride * p;
      if (k >= 0 && k < K && k % 2 == 0) {
        multiply_pair(d16, lower, upper, w + (K / 2 * K + k / 2) * weights_of_pair, s[p]);
      }
    }
  }
  finish(f, s, at);
}

/// The output pixels of a row whose windows touch neither the left nor the right padding.
struct Interior {
  int64_t begin = 0, end = 0;
};

template <class D16, int K, int Stride>
HWY_NOINLINE void interior_of_block(const DepthwiseCall& c, int64_t n, int64_t oy, Interior inside, const int16_t* w,
                                    const BlockEpilogue& b, int64_t at) {
  constexpr int kTile = 4;
  const int64_t step = c.g.channels, count = inside.end - inside.begin;
  const uint8_t* rows[K];
  const int64_t x = inside.begin * Stride - c.g.pad_w;
  for (int r = 0; r < K; ++r) {
    rows[r] = image_row(c, n, oy * Stride - c.g.pad_h + r) + x * step + b.first_channel;
  }
  const Finish<D16> f(b);
  at += inside.begin * f.e.pixel_stride;
  int64_t done = 0;
  const auto go_to = [&](int64_t pixel) {
    for (int r = 0; r < K; ++r) rows[r] += (pixel - done) * Stride * step;
    at += (pixel - done) * f.e.pixel_stride;
    done = pixel;
  };
  while (done + kTile <= count) {
    pixels<D16, K, Stride, kTile>(rows, step, w, f, at);
    go_to(done + kTile);
  }
  // Three left over are cheaper as a whole tile that computes one pixel again.
  if (count - done == kTile - 1 && count >= kTile) {
    go_to(count - kTile);
    pixels<D16, K, Stride, kTile>(rows, step, w, f, at);
    return;
  }
  while (done < count) {
    pixels<D16, K, Stride, 1>(rows, step, w, f, at);
    go_to(done + 1);
  }
}

template <class D16>
HWY_INLINE void interior(const DepthwiseCall& c, int64_t n, int64_t oy, Interior inside, const int16_t* w,
                         const BlockEpilogue& b, int64_t at) {
  const bool one = c.g.stride_w == 1;
  switch (c.g.kernel_w) {
    case 3:
      return one ? interior_of_block<D16, 3, 1>(c, n, oy, inside, w, b, at)
                 : interior_of_block<D16, 3, 2>(c, n, oy, inside, w, b, at);
    case 5:
      return one ? interior_of_block<D16, 5, 1>(c, n, oy, inside, w, b, at)
                 : interior_of_block<D16, 5, 2>(c, n, oy, inside, w, b, at);
    default:
      return interior_of_block<D16, 7, 1>(c, n, oy, inside, w, b, at);
  }
}

/// Square kernels of 3 and 5 with stride 1 or 2, and of 7 with stride 1, have their own loops.
inline Interior interior_pixels(const ConvGeometry& g) {
  const bool square = g.kernel_h == g.kernel_w && g.stride_h == g.stride_w && g.dilation_h == 1 && g.dilation_w == 1;
  const bool small = (g.kernel_w == 3 || g.kernel_w == 5) && g.stride_w <= 2;
  const bool has_loop = square && (small || (g.kernel_w == 7 && g.stride_w == 1));
  if (!has_loop) return {};
  Interior inside;
  inside.begin = (g.pad_w + g.stride_w - 1) / g.stride_w;
  const int64_t last = g.width - g.kernel_w + g.pad_w;  // first column of the last window inside, in padded columns
  inside.end = last < 0 ? 0 : std::min(g.out_width(), last / g.stride_w + 1);
  return inside.begin < inside.end ? inside : Interior{};
}

template <class D16>
void rows_of(const DepthwiseCall& c, int64_t begin, int64_t end) {
  const int64_t height = c.g.out_height(), width = c.g.out_width();
  const Interior inside = interior_pixels(c.g);
  Pointers taps;
  for (int64_t i = begin; i < end; ++i) {
    const int64_t row = i / c.groups, n = row / height, oy = row % height;
    const int64_t first = i % c.groups * c.group_blocks;
    const int64_t last = std::min<int64_t>(first + c.group_blocks, static_cast<int64_t>(c.plan->blocks.size()));
    const int64_t start = row * width * c.e.pixel_stride;
    const auto block_at = [&](int64_t k) {
      const int64_t at = k * c.plan->width;
      return BlockEpilogue{c.e, c.multiplier + at, c.bias + at, c.factor == nullptr ? nullptr : c.factor + at,
                           c.plan->blocks[static_cast<size_t>(k)].first_channel};
    };
    for (int64_t k = first; k < last && inside.begin < inside.end; ++k) {
      const BlockEpilogue b = block_at(k);
      const int16_t* w = c.plan->weights.data() + c.plan->blocks[static_cast<size_t>(k)].weights;
      interior<D16>(c, n, oy, inside, w, b, start + b.first_channel);
    }
    for (int64_t ox = 0; ox < width; ++ox) {
      if (ox == inside.begin && inside.begin < inside.end) ox = inside.end;
      if (ox >= width) break;
      point_to_taps(c, n, oy, ox, taps);
      for (int64_t k = first; k < last; ++k) {
        const BlockEpilogue b = block_at(k);
        const int16_t* w = c.plan->weights.data() + c.plan->blocks[static_cast<size_t>(k)].weights;
        pixel_of_block<D16>(taps, w, b, start + ox * c.e.pixel_stride + b.first_channel);
      }
    }
  }
}

/// The widest vectors that the channels fill.
DepthwiseLoops depthwise_loops(int64_t channels) {
  const auto most = static_cast<int64_t>(hn::Lanes(hn::ScalableTag<int16_t>()));
  if (most >= 32 && channels >= 32) return {32, rows_of<hn::CappedTag<int16_t, 32> >};
  if (most >= 16 && channels >= 16) return {16, rows_of<hn::CappedTag<int16_t, 16> >};
  if (channels >= 8) return {8, rows_of<hn::CappedTag<int16_t, 8> >};
  return {0, plain_rows};
}
#endif  // HWY_TARGET

}  // namespace HWY_NAMESPACE
}  // namespace tsquant::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace tsquant::kernels {
HWY_EXPORT(depthwise_loops);
DepthwiseLoops choose_depthwise_loops(int64_t channels) { return HWY_DYNAMIC_DISPATCH(depthwise_loops)(channels); }
}  // namespace tsquant::kernels
#endif

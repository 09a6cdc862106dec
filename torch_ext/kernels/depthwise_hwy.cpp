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

/// Real values of sums, in units of the result's scale.
template <class D16>
struct ScaledSums {
  using D32 = hn::RepartitionToWide<D16>;
  using DF = hn::Rebind<float, D32>;
  using DQ = hn::Rebind<uint8_t, D16>;
  using VF = hn::Vec<DF>;

  VF m0, m1, b0, b1;

  HWY_INLINE explicit ScaledSums(const BlockEpilogue& block) {
    const DF df;
    const size_t half = hn::Lanes(df);
    m0 = hn::LoadU(df, block.multiplier);
    m1 = hn::LoadU(df, block.multiplier + half);
    b0 = hn::LoadU(df, block.bias);
    b1 = hn::LoadU(df, block.bias + half);
  }

  HWY_INLINE VF lower(const Sums<D16>& s) const { return fused(DF(), hn::ConvertTo(DF(), s.lower), m0, b0); }
  HWY_INLINE VF upper(const Sums<D16>& s) const { return fused(DF(), hn::ConvertTo(DF(), s.upper), m1, b1); }

  /// Saturation to 16 bits keeps the order, and every sum beyond it is clamped anyway.
  static HWY_INLINE hn::Vec<DQ> codes(VF f0, VF f1, hn::Vec<D16> zero_point, hn::Vec<DQ> low, hn::Vec<DQ> high) {
    const auto both = hn::ReorderDemote2To(D16(), nearest(D32(), f0), nearest(D32(), f1));
    return hn::Min(hn::Max(hn::DemoteTo(DQ(), hn::SaturatedAdd(both, zero_point)), low), high);
  }
};

template <class D16>
struct Finish : ScaledSums<D16> {
  using Base = ScaledSums<D16>;
  using typename Base::D32;
  using typename Base::DF;
  using typename Base::DQ;
  using typename Base::VF;

  // Copies: a store of bytes might change what references show.
  Epilogue e;
  const BlockEpilogue* whole;

  HWY_INLINE explicit Finish(const BlockEpilogue& block) : Base(block), e(block.e), whole(&block) {}

  HWY_INLINE void codes(VF f0, VF f1, int64_t at) const {
    const auto zero_point = hn::Set(D16(), static_cast<int16_t>(e.zero_point));
    const auto low = hn::Set(DQ(), static_cast<uint8_t>(e.low)), high = hn::Set(DQ(), static_cast<uint8_t>(e.high));
    hn::StoreU(Base::codes(f0, f1, zero_point, low, high), DQ(), e.codes + at);
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

/// Codes without an activation or a residual.
template <class D16>
struct SimpleFinish : ScaledSums<D16> {
  using Base = ScaledSums<D16>;
  using typename Base::DQ;

  hn::Vec<D16> zero_point;
  hn::Vec<DQ> low, high;

  HWY_INLINE explicit SimpleFinish(const BlockEpilogue& b) : Base(b) {
    zero_point = hn::Set(D16(), static_cast<int16_t>(b.e.zero_point));
    low = hn::Set(DQ(), static_cast<uint8_t>(b.e.low));
    high = hn::Set(DQ(), static_cast<uint8_t>(b.e.high));
  }

  template <int T>
  HWY_INLINE void write(const Sums<D16> (&s)[T], uint8_t* out, int64_t stride) const {
#pragma GCC unroll 8
    for (int p = 0; p < T; ++p) {
      hn::StoreU(Base::codes(this->lower(s[p]), this->upper(s[p]), zero_point, low, high), DQ(), out + p * stride);
    }
  }
};

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

/// The sums of T neighbouring pixels of a row. rows: the input rows at the first tap of the first pixel.
template <class D16, int K, int Stride, int T>
HWY_INLINE void sum_pixels(const uint8_t* const (&rows)[K], int64_t step, const int16_t* w, Sums<D16> (&s)[T]) {
  const D16 d16;
  const hn::RepartitionToWide<D16> d32;
  constexpr int kColumns = (T - 1) * Stride + K;
  const auto weights_of_pair = 2 * hn::Lanes(d16);
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
}

/// One row of output of one block, in tiles of neighbouring pixels. Simple: codes without an activation or a residual.
template <class D16, int K, int Stride, bool Simple>
struct RowOfBlock {
  const DepthwiseCall& c;
  const BlockEpilogue& block;
  const int16_t* w;
  int64_t at;
  const uint8_t* padding;
  const uint8_t* rows[K];  ///< at the first column of the image

  HWY_INLINE RowOfBlock(const DepthwiseCall& call, int64_t n, int64_t oy, const int16_t* weights,
                        const BlockEpilogue& b, int64_t start)
      : c(call), block(b), w(weights), at(start), padding(call.padding_row + b.first_channel) {
    for (int r = 0; r < K; ++r) rows[r] = image_row(c, n, oy * Stride - c.g.pad_h + r) + b.first_channel;
  }

  /// T pixels from `ox` on. Columns beyond the image are padding: such windows are gathered first.
  template <int T>
  HWY_INLINE void tile(int64_t ox) const {
    constexpr int kColumns = (T - 1) * Stride + K;
    constexpr size_t kWidth = hn::MaxLanes(D16());
    const int64_t x = ox * Stride - c.g.pad_w;
    const bool inside = x >= 0 && x + kColumns <= c.g.width;
    HWY_ALIGN uint8_t gathered[K][kColumns * kWidth];
    const uint8_t* from[K];
#pragma GCC unroll 8
    for (int r = 0; r < K; ++r) {
      if (!inside) gather<kColumns>(rows[r], x, gathered[r]);
      from[r] = inside ? rows[r] + x * c.g.channels : gathered[r];
    }
    Sums<D16> s[T];
    sum_pixels<D16, K, Stride>(from, inside ? c.g.channels : static_cast<int64_t>(kWidth), w, s);
    write(s, at + ox * block.e.pixel_stride);
  }

  template <int Columns>
  HWY_INLINE void gather(const uint8_t* row, int64_t x, uint8_t* to) const {
    const hn::Rebind<uint8_t, D16> d;
    row += x * c.g.channels;
#pragma GCC unroll 16
    for (int j = 0; j < Columns; ++j, row += c.g.channels, to += hn::Lanes(d)) {
      const bool inside = static_cast<uint64_t>(x + j) < static_cast<uint64_t>(c.g.width);
      hn::StoreU(hn::LoadU(d, inside ? row : padding), d, to);
    }
  }

  template <int T>
  HWY_INLINE void write(const Sums<D16> (&s)[T], int64_t to) const {
    if constexpr (Simple) {
      // Only now: its constants would take registers from the sums.
      SimpleFinish<D16>(block).write(s, block.e.codes + to, block.e.pixel_stride);
    } else {
      finish(Finish<D16>(block), s, to);
    }
  }

  static constexpr int kLarge = Simple && K == 3 && Stride == 1 ? 6 : 4, kSmall = kLarge - 2;

  /// Pixels of the next tile when so many are left: even numbers are sums of both sizes.
  static int64_t next_tile(int64_t left) {
    if (left % 2 == 1) return left >= 4 ? 4 : 1;
    if (left >= kLarge && left % kLarge == 0) return kLarge;
    return left >= kSmall ? kSmall : 1;
  }

  /// Each size of tile stands here once: the code of a row should fit into the first-level cache.
  HWY_INLINE void run(int64_t width) const {
    for (int64_t x = 0, size; x < width; x += size) {
      // An odd number of pixels: one is computed again, where a tile takes it.
      const int64_t left = width - x;
      if (left % 2 == 1 && x > 0 && left + 1 >= kSmall) --x;
      size = next_tile(width - x);
      if (size == kLarge) {
        tile<kLarge>(x);
      } else if (size == kSmall) {
        tile<kSmall>(x);
      } else {
        tile<1>(x);
      }
    }
  }
};

template <class D16, int K, int Stride, bool Simple>
HWY_NOINLINE void row_of_block(const DepthwiseCall& c, int64_t n, int64_t oy, const int16_t* w, const BlockEpilogue& b,
                               int64_t at) {
  RowOfBlock<D16, K, Stride, Simple>(c, n, oy, w, b, at).run(c.g.out_width());
}

template <class D16>
using RunRow = void (*)(const DepthwiseCall& c, int64_t n, int64_t oy, const int16_t* w, const BlockEpilogue& b,
                        int64_t at);

/// Square kernels of 3 and 5 with stride 1 or 2, and of 7 with stride 1, have their own loops; null for others.
template <class D16, bool Simple>
RunRow<D16> row_loop(const ConvGeometry& g) {
  const bool square = g.kernel_h == g.kernel_w && g.stride_h == g.stride_w && g.dilation_h == 1 && g.dilation_w == 1;
  if (!square || g.stride_w > 2) return nullptr;
  const bool one = g.stride_w == 1;
  if (g.kernel_w == 3) return one ? row_of_block<D16, 3, 1, Simple> : row_of_block<D16, 3, 2, Simple>;
  if (g.kernel_w == 5) return one ? row_of_block<D16, 5, 1, Simple> : row_of_block<D16, 5, 2, Simple>;
  return g.kernel_w == 7 && one ? row_of_block<D16, 7, 1, Simple> : nullptr;
}

template <class D16>
void rows_of(const DepthwiseCall& c, int64_t begin, int64_t end) {
  const int64_t height = c.g.out_height(), width = c.g.out_width(), rows = c.g.batch * height;
  const bool simple = c.e.floats == nullptr && c.e.other == nullptr && c.e.activation == Activation::kNone;
  const RunRow<D16> run_row = simple ? row_loop<D16, true>(c.g) : row_loop<D16, false>(c.g);
  Pointers taps;
  for (int64_t i = begin; i < end; ++i) {
    const int64_t row = i % rows, n = row / height, oy = row % height;
    const int64_t group = i / rows, first = group * c.group_blocks;
    const int64_t last = group + 1 < c.groups ? first + c.group_blocks : static_cast<int64_t>(c.plan->blocks.size());
    const int64_t start = row * width * c.e.pixel_stride;
    const auto for_blocks = [&](const auto& run) {
      for (int64_t k = first; k < last; ++k) {
        const DepthwiseBlock& block = c.plan->blocks[static_cast<size_t>(k)];
        const int64_t at = k * c.plan->width;
        const BlockEpilogue b = {c.e, c.multiplier + at, c.bias + at, c.factor == nullptr ? nullptr : c.factor + at,
                                 block.first_channel};
        run(b, c.plan->weights.data() + block.weights, start + b.first_channel);
      }
    };
    if (run_row != nullptr) {
      for_blocks([&](const BlockEpilogue& b, const int16_t* w, int64_t at) { run_row(c, n, oy, w, b, at); });
      continue;
    }
    for (int64_t ox = 0; ox < width; ++ox) {
      point_to_taps(c, n, oy, ox, taps);
      for_blocks([&](const BlockEpilogue& b, const int16_t* w, int64_t at) {
        pixel_of_block<D16>(taps, w, b, at + ox * c.e.pixel_stride);
      });
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

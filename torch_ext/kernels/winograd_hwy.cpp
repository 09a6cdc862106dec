// The loops of winograd.h, compiled by Highway once per instruction set.
#include "kernels/winograd.h"

#include <array>
#include <cstring>
#include <utility>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/winograd_hwy.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "kernels/epilogue-inl.h"

#if HWY_TARGET == HWY_SSE4 || HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_AVX3

HWY_BEFORE_NAMESPACE();
namespace tsquant::kernels {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

/// Sixteen channels at a time, in as many registers as they need.
using DCode = hn::CappedTag<int16_t, kLanes>;
using VCode = hn::Vec<DCode>;
constexpr int kRegisters = static_cast<int>(kLanes) / kN;

/// Tiles of one product: the sums, the weights, one broadcast and one product fill the registers.
constexpr int kMostTiles = kN == 4 ? 2 : kN == 8 ? 6 : 12;

/// One column of B^T d.
struct Column {
  VCode v[4];
};

HWY_ATTR HWY_INLINE Column load_column(const uint8_t* const* pixels, int64_t width, int64_t channel) {
  const DCode d;
  const hn::Rebind<uint8_t, DCode> d8;
  const auto codes = [&](int64_t row)
                         HWY_ATTR { return hn::PromoteTo(d, hn::LoadU(d8, pixels[row * width] + channel)); };
  const VCode d0 = codes(0), d1 = codes(1), d2 = codes(2), d3 = codes(3);
  return {{hn::Sub(d0, d2), hn::Add(d1, d2), hn::Sub(d2, d1), hn::Sub(d1, d3)}};
}

HWY_ATTR void winograd_transform(const uint8_t* const* pixels, int64_t tiles, int64_t channels, int16_t* out,
                                 int64_t tile_stride, int64_t plane_stride) {
  const DCode d;
  const int64_t width = 2 * tiles + 2;
  for (int64_t channel = 0; channel < channels; channel += static_cast<int64_t>(hn::Lanes(d))) {
    // A tile shares two columns with the next one.
    Column a = load_column(pixels, width, channel), b = load_column(pixels + 1, width, channel);
    int16_t* to = out + channel;
    for (int64_t t = 0; t < tiles; ++t, to += tile_stride) {
      const Column c = load_column(pixels + 2 * t + 2, width, channel);
      const Column e = load_column(pixels + 2 * t + 3, width, channel);
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) {
        int16_t* plane = to + 4 * i * plane_stride;
        hn::StoreU(hn::Sub(a.v[i], c.v[i]), d, plane);
        hn::StoreU(hn::Add(b.v[i], c.v[i]), d, plane + plane_stride);
        hn::StoreU(hn::Sub(c.v[i], b.v[i]), d, plane + 2 * plane_stride);
        hn::StoreU(hn::Sub(b.v[i], e.v[i]), d, plane + 3 * plane_stride);
      }
      a = c;
      b = e;
    }
  }
}

template <int T>
HWY_ATTR HWY_NOINLINE void multiply_tiles(const int16_t* input, int64_t tile_stride, const int16_t* weights,
                                          int64_t pairs, int32_t* products) {
  const D32 d;
  const D16 d16;
  V32 sums[T][kRegisters], unused = hn::Zero(d);
  const int16_t* x[T];
#pragma GCC unroll 12
  for (int t = 0; t < T; ++t) {
    x[t] = input + t * tile_stride;
#pragma GCC unroll 4
    for (int u = 0; u < kRegisters; ++u) sums[t][u] = hn::Zero(d);
  }
  for (int64_t i = 0; i < pairs; ++i, weights += 2 * kLanes) {
    hn::Vec<D16> w[kRegisters];
#pragma GCC unroll 4
    for (int u = 0; u < kRegisters; ++u) w[u] = hn::Load(d16, weights + u * 2 * kN);
#pragma GCC unroll 12
    for (int t = 0; t < T; ++t) {
      int32_t pair;
      std::memcpy(&pair, x[t] + 2 * i, sizeof(pair));
      const auto v = hn::BitCast(d16, hn::Set(d, pair));
#pragma GCC unroll 4
      for (int u = 0; u < kRegisters; ++u) sums[t][u] = hn::ReorderWidenMulAccumulate(d, v, w[u], sums[t][u], unused);
    }
  }
#pragma GCC unroll 12
  for (int t = 0; t < T; ++t) {
#pragma GCC unroll 4
    for (int u = 0; u < kRegisters; ++u) hn::Store(sums[t][u], d, products + t * kLanes + u * kN);
  }
}

using MultiplyTiles = void (*)(const int16_t*, int64_t, const int16_t*, int64_t, int32_t*);

template <size_t... T>
constexpr std::array<MultiplyTiles, sizeof...(T)> multipliers(std::index_sequence<T...>) {
  return {multiply_tiles<static_cast<int>(T) + 1>...};
}

void winograd_multiply(const int16_t* input, int64_t tile_stride, const int16_t* weights, int64_t channels,
                       int64_t tiles, int32_t* products) {
  static constexpr auto kTable = multipliers(std::make_index_sequence<kMostTiles>());
  // Parts of nearly equal size: a short one at the end would take as long as a full one.
  for (int64_t parts = (tiles + kMostTiles - 1) / kMostTiles; parts > 0; --parts) {
    const int64_t now = (tiles + parts - 1) / parts;
    kTable[static_cast<size_t>(now - 1)](input, tile_stride, weights, channels / 2, products);
    tiles -= now;
    input += now * tile_stride;
    products += now * kLanes;
  }
}

/// A^T m A, a quarter of it, for one register of channels of one tile.
HWY_ATTR HWY_INLINE void transform_sums(const int32_t* m, int64_t plane_stride, int32_t* top, int32_t* bottom) {
  const D32 d;
  const auto plane = [&](int i) HWY_ATTR { return hn::Load(d, m + i * plane_stride); };
  V32 upper[4], lower[4];
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    const V32 m1 = plane(i + 4), m2 = plane(i + 8);
    upper[i] = hn::Add(plane(i), hn::Add(m1, m2));
    lower[i] = hn::Sub(hn::Sub(m1, m2), plane(i + 12));
  }
  const auto left = [&](const V32(&v)[4]) HWY_ATTR { return hn::ShiftRight<2>(hn::Add(v[0], hn::Add(v[1], v[2]))); };
  const auto right = [&](const V32(&v)[4]) HWY_ATTR { return hn::ShiftRight<2>(hn::Sub(hn::Sub(v[1], v[2]), v[3])); };
  hn::Store(left(upper), d, top);
  hn::Store(right(upper), d, top + kLanes);
  hn::Store(left(lower), d, bottom);
  hn::Store(right(lower), d, bottom + kLanes);
}

HWY_ATTR void winograd_finish(const int32_t* products, int64_t plane_stride, int64_t tiles, int32_t* sums,
                              const Tile& top, int64_t bottom, const Epilogue& e) {
  int32_t* lower = sums + 2 * tiles * kLanes;
  for (int64_t t = 0; t < tiles; ++t) {
#pragma GCC unroll 4
    for (int u = 0; u < kRegisters; ++u) {
      const int64_t at = 2 * t * kLanes + u * kN;
      transform_sums(products + t * kLanes + u * kN, plane_stride, sums + at, lower + at);
    }
  }
  finish(sums, kLanes, top, e);
  if (bottom == 0) return;
  Tile second = top;
  second.first_pixel += bottom;
  finish(lower, kLanes, second, e);
}

}  // namespace HWY_NAMESPACE
}  // namespace tsquant::kernels
HWY_AFTER_NAMESPACE();

#endif

#if HWY_ONCE
namespace tsquant::kernels {
// Everything above is compiled for its target: until supports() only addresses may be taken.
const std::vector<WinogradKernel>& winograd_table() {
  static const std::vector<WinogradKernel> table = {
#if HWY_TARGETS & HWY_SSE4
    {"sse4", Isa::kSse4, supports_target<HWY_SSE4, Isa::kSse4>, N_SSE4::winograd_transform, N_SSE4::winograd_multiply,
     N_SSE4::winograd_finish},
#endif
#if HWY_TARGETS & HWY_AVX2
    {"avx2", Isa::kAvx2, supports_target<HWY_AVX2, Isa::kAvx2>, N_AVX2::winograd_transform, N_AVX2::winograd_multiply,
     N_AVX2::winograd_finish},
#endif
#if HWY_TARGETS & HWY_AVX3
    {"avx512", Isa::kAvx512, supports_target<HWY_AVX3, Isa::kAvx512>, N_AVX3::winograd_transform,
     N_AVX3::winograd_multiply, N_AVX3::winograd_finish},
#endif
  };
  return table;
}

}  // namespace tsquant::kernels
#endif

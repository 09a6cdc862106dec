// Exact convolutions and linear layers without 8-bit dot products: codes and weights are widened to 16 bits, and one
// instruction adds the products of two neighbours into 32-bit sums. Nothing can saturate. Highway compiles this file
// once per instruction set; each becomes a row of the kernel table.
#include "kernels/igemm.h"

#include <array>
#include <cstring>
#include <utility>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/igemm_hwy.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "kernels/epilogue-inl.h"

#if HWY_TARGET == HWY_SSE4 || HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_AVX3

HWY_BEFORE_NAMESPACE();
namespace tsquant::kernels {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

constexpr int kMostVectors = kN == kLanes ? 4 : 1;
constexpr int kMostRegisters = kMostVectors * static_cast<int>(kLanes) / kN;  // that hold the sums of one pixel

/// Pixels of a tile: the sums, the weights, one broadcast and one product fill the 16 (AVX512: 32) registers.
constexpr int most_pixels(int registers) {
  constexpr int kSse4[] = {6, 4, 3, 2}, kAvx2[] = {10, 6, 6, 6}, kAvx512[] = {12, 12, 8, 6};
  return (kN == 4 ? kSse4 : kN == 8 ? kAvx2 : kAvx512)[registers - 1];
}

int registers_for(int64_t channels) {
  return static_cast<int>(HWY_MIN((channels + kN - 1) / kN, int64_t{kMostRegisters}));
}

/// Goes on to the next pixels of a tile.
HWY_INLINE void advance(Tile& t, int64_t pixels) {
  t.offsets += pixels * t.taps;
  if (t.places == nullptr) {
    t.first_pixel += pixels;
  } else {
    t.places += pixels;
  }
}

/// The value itself, now: gcc would move all products to the front and run out of registers.
HWY_ATTR HWY_INLINE V32 kept(V32 v) {
#if HWY_TARGET == HWY_AVX2
  asm("" : "+x"(v.raw));
#endif
  return v;
}

/// Adds the products of one run to the sums of P pixels and U registers of channels; returns the next weights.
template <int P, int U>
HWY_ATTR HWY_INLINE const int8_t* add_pair_products(const int8_t* w, int64_t vectors, int64_t steps,
                                                    const int16_t* const (&x)[P], V32 (&acc)[P][U]) {
  const D32 d;
  const D16 d16;
  const hn::Rebind<int8_t, D16> d8;
  V32 unused = hn::Zero(d);
  // A constant where it can be one: registers are scarce.
  const int64_t step_bytes = (kMostVectors == 1 ? 1 : vectors) * kLanes * 2;
  for (int64_t i = 0; i < steps; ++i, w += step_bytes) {
    hn::Vec<D16> wv[U];
#pragma GCC unroll 4
    for (int u = 0; u < U; ++u) wv[u] = hn::PromoteTo(d16, hn::Load(d8, w + u * kN * 2));
#pragma GCC unroll 16
    for (int p = 0; p < P; ++p) {
      int32_t pair;
      std::memcpy(&pair, x[p] + 2 * i, sizeof(pair));
      const auto xv = hn::BitCast(d16, hn::Set(d, pair));
#pragma GCC unroll 4
      for (int u = 0; u < U; ++u) acc[p][u] = kept(hn::ReorderWidenMulAccumulate(d, xv, wv[u], acc[p][u], unused));
    }
  }
  return w;
}

/// acc[p][u] = sums over all taps and steps for P pixels and U registers of channels.
template <int P, int U>
HWY_ATTR HWY_INLINE void accumulate(const Tile& t, V32 (&acc)[P][U]) {
  const D32 d;
#pragma GCC unroll 16
  for (int p = 0; p < P; ++p) {
#pragma GCC unroll 4
    for (int u = 0; u < U; ++u) acc[p][u] = hn::Zero(d);
  }
  const int8_t* w = t.weights;
  for (int64_t tap = 0; tap < t.taps; ++tap) {
    const int16_t* x[P];
#pragma GCC unroll 16
    for (int p = 0; p < P; ++p) {
      const int32_t offset = t.offsets[p * t.taps + tap];
      x[p] = offset < 0 ? static_cast<const int16_t*>(t.padding) : static_cast<const int16_t*>(t.source) + offset;
    }
    w = add_pair_products<P, U>(w, t.vectors, t.steps, x, acc);
  }
}

#if HWY_TARGET == HWY_AVX2
/// `count` times P pixels with 16 channels that become codes, where single runs and results lie one after the other.
template <int P, Kind K>
HWY_ATTR HWY_NOINLINE void run_line(Tile t, int64_t count, const Epilogue& e) {
  V32 acc[P][2];
  const auto* source = static_cast<const int16_t*>(t.source) + t.offsets[0];
  int64_t at = t.first_pixel * e.pixel_stride + t.first_channel;
  for (; count > 0; --count, source += P * t.run_distance, at += P * e.pixel_stride) {
    const int16_t* x[P];
#pragma GCC unroll 16
    for (int p = 0; p < P; ++p) {
      x[p] = source + p * t.run_distance;
      acc[p][0] = acc[p][1] = hn::Zero(D32());
    }
    add_pair_products<P, 2>(t.weights, 1, t.steps, x, acc);
    // Only now: its constants would take registers from the sums.
    const Sixteen sixteen(t, e);
    sixteen.write<K>(acc, e, at);
  }
}
#endif

/// `count` times P pixels, one after the other.
template <int P, int U>
HWY_ATTR HWY_NOINLINE void run_pixels(Tile t, int64_t count, const Epilogue& e) {
  V32 acc[P][U];
#if HWY_TARGET == HWY_AVX2
  if constexpr (U == 2) {
    if (t.channels == kLanes && e.codes != nullptr && e.other == nullptr && e.activation == Activation::kNone) {
      for (; count > 0; --count, advance(t, P)) {
        accumulate(t, acc);
        // Only now: its constants would take registers from the sums.
        const Sixteen sixteen(t, e);
#pragma GCC unroll 16
        for (int p = 0; p < P; ++p) sixteen.write<Kind::kCodes>(acc[p][0], acc[p][1], t, e, p);
      }
      return;
    }
  }
#endif
  const D32 d;
  HWY_ALIGN int32_t sums[P * U * kN];
  t.pixels = P;
  for (; count > 0; --count, advance(t, P)) {
    accumulate(t, acc);
#pragma GCC unroll 16
    for (int p = 0; p < P; ++p) {
#pragma GCC unroll 4
      for (int u = 0; u < U; ++u) hn::Store(acc[p][u], d, sums + (p * U + u) * kN);
    }
    finish(sums, U * kN, t, e);
  }
}

using RunPixels = void (*)(Tile, int64_t, const Epilogue&);

template <int U, size_t... P>
constexpr std::array<RunPixels, sizeof...(P)> pixel_runs(std::index_sequence<P...>) {
  return {run_pixels<static_cast<int>(P) + 1, U>...};
}

/// All pixels in groups of the most that fit, and one of the rest.
template <size_t N>
void run_parts(const std::array<RunPixels, N>& table, const Tile& t, const Epilogue& e) {
  constexpr int64_t kMost = N;
  const int64_t full = t.pixels / kMost, left = t.pixels % kMost;
  Tile rest = t;
  if (full > 0) {
    table[N - 1](t, full, e);
    advance(rest, full * kMost);
  }
  if (left > 0) table[static_cast<size_t>(left - 1)](rest, 1, e);
}

template <int U>
void run_registers(const Tile& t, const Epilogue& e) {
  static constexpr auto kTable = pixel_runs<U>(std::make_index_sequence<most_pixels(U)>());
  run_parts(kTable, t, e);
}

#if HWY_TARGET == HWY_AVX2
template <Kind K, size_t... P>
constexpr std::array<RunPixels, sizeof...(P)> line_runs(std::index_sequence<P...>) {
  return {run_line<static_cast<int>(P) + 1, K>...};
}

template <Kind K>
void run_lines(const Tile& t, const Epilogue& e) {
  static constexpr auto kTable = line_runs<K>(std::make_index_sequence<most_pixels(2)>());
  run_parts(kTable, t, e);
}
#endif

void run(const Tile& t, const Epilogue& e) {
#if HWY_TARGET == HWY_AVX2
  if (t.run_distance > 0 && t.channels == kLanes && e.codes != nullptr && e.activation == Activation::kNone) {
    if (e.other == nullptr) return run_lines<Kind::kCodes>(t, e);
    return e.middle ? run_lines<Kind::kMiddle>(t, e) : run_lines<Kind::kResidual>(t, e);
  }
#endif
  switch (registers_for(t.channels)) {
    case 1:
      return run_registers<1>(t, e);
    case 2:
      return run_registers<2>(t, e);
#if HWY_TARGET != HWY_AVX2
    case 3:
      return run_registers<3>(t, e);
    default:
      return run_registers<4>(t, e);
#endif
  }
}

int64_t group_pixels(int64_t channels) { return most_pixels(registers_for(channels)); }

/// Several groups of pixels per call, which costs as much as some steps.
int64_t tile_pixels(int64_t channels) {
  constexpr int64_t kGroups = 16;
  return kGroups * group_pixels(channels);
}

HWY_ATTR void widen(const uint8_t* codes, int64_t n, void* elements) {
  const D16 d16;
  const hn::Rebind<uint8_t, D16> d8;
  constexpr int64_t kStep = 2 * kN;
  auto* out = static_cast<int16_t*>(elements);
  int64_t i = 0;
  for (; i + kStep <= n; i += kStep) hn::StoreU(hn::PromoteTo(d16, hn::LoadU(d8, codes + i)), d16, out + i);
  for (; i < n; ++i) out[i] = codes[i];
}

}  // namespace HWY_NAMESPACE
}  // namespace tsquant::kernels
HWY_AFTER_NAMESPACE();

#endif

#if HWY_ONCE
namespace tsquant::kernels {
// Everything above is compiled for its target: until supports() only addresses may be taken.
std::vector<PairKernel> pair_kernels() {
  std::vector<PairKernel> kernels;
#if HWY_TARGETS & HWY_SSE4
  kernels.push_back({"sse4", Isa::kSse4, N_SSE4::kMostVectors, supports_target<HWY_SSE4, Isa::kSse4>,
                     N_SSE4::group_pixels, N_SSE4::tile_pixels, N_SSE4::run, N_SSE4::widen});
#endif
#if HWY_TARGETS & HWY_AVX2
  kernels.push_back({"avx2", Isa::kAvx2, N_AVX2::kMostVectors, supports_target<HWY_AVX2, Isa::kAvx2>,
                     N_AVX2::group_pixels, N_AVX2::tile_pixels, N_AVX2::run, N_AVX2::widen});
#endif
#if HWY_TARGETS & HWY_AVX3
  kernels.push_back({"avx512", Isa::kAvx512, N_AVX3::kMostVectors, supports_target<HWY_AVX3, Isa::kAvx512>,
                     N_AVX3::group_pixels, N_AVX3::tile_pixels, N_AVX3::run, N_AVX3::widen});
#endif
  return kernels;
}

#if HWY_TARGETS & HWY_AVX3
void finish_avx512(const int32_t* sums, int64_t sums_stride, const Tile& tile, const Epilogue& epilogue) {
  N_AVX3::finish(sums, sums_stride, tile, epilogue);
}
#endif

#if defined(__x86_64__)
void finish_avx2(const int32_t* sums, int64_t sums_stride, const Tile& tile, const Epilogue& epilogue) {
  N_AVX2::finish(sums, sums_stride, tile, epilogue);
}
#endif

}  // namespace tsquant::kernels
#endif

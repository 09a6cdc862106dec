// The tiles of crossed.h, compiled by Highway.
#include "kernels/crossed.h"

#include <array>
#include <cstring>
#include <utility>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/crossed_hwy.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "kernels/crossed-inl.h"

#if HWY_TARGET == HWY_AVX2

HWY_BEFORE_NAMESPACE();
namespace tsquant::kernels {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

/// Pixels of a tile: the sums, two registers of weights for each register of channels, two broadcasts and two sums of
/// them fill the 16 registers.
constexpr int64_t most_crossed_pixels(int registers) { return registers == 1 ? 8 : 4; }
/// Groups of so many pixels per call, which costs as much as some steps.
constexpr int64_t kCrossedGroups = 24;
constexpr int crossed_registers(int64_t channels) { return channels <= kN ? 1 : 2; }

template <int P>
HWY_ATTR HWY_INLINE void point_to_runs(const Tile& t, const int32_t* offsets, const int16_t* (&x)[P]) {
#pragma GCC unroll 8
  for (int p = 0; p < P; ++p) {
    const int32_t offset = offsets[p * t.taps];
    x[p] = offset < 0 ? static_cast<const int16_t*>(t.padding) : static_cast<const int16_t*>(t.source) + offset;
  }
}

template <int P, int U>
HWY_ATTR HWY_INLINE void start_sums(const Tile& t, const int32_t* pixel_starts, V32 (&sums)[P][U]) {
  const D32 d;
#pragma GCC unroll 8
  for (int p = 0; p < P; ++p) {
    const V32 start = hn::Set(d, pixel_starts[p]);
#pragma GCC unroll 2
    for (int u = 0; u < U; ++u) sums[p][u] = hn::Add(start, hn::LoadU(d, t.channel_starts + u * kN));
  }
}

/// The sums of `count` times P pixels from the given one on, [pixel][U][lane].
template <int P, int U>
HWY_ATTR HWY_NOINLINE void sum_crossed(const Tile& t, int64_t first, int64_t count, int32_t* out) {
  V32 sums[P][U];
  const D32 d;
  const int32_t* offsets = t.offsets + first * t.taps;
  const int32_t* starts = t.pixel_starts + first;
  out += first * U * kN;
  for (; count > 0; --count, offsets += P * t.taps, starts += P, out += P * U * kN) {
    start_sums(t, starts, sums);
    const int8_t* weights = t.weights;
    for (int64_t tap = 0; tap < t.taps; ++tap) {
      const int16_t* x[P];
      point_to_runs(t, offsets + tap, x);
      weights = add_crossed(x, weights, t.steps / 2, sums);
    }
#pragma GCC unroll 8
    for (int p = 0; p < P; ++p) {
#pragma GCC unroll 2
      for (int u = 0; u < U; ++u) hn::Store(sums[p][u], d, out + (p * U + u) * kN);
    }
  }
}

/// `count` times P neighbouring pixels with 16 channels that become codes without an activation.
template <int P, Kind K>
HWY_ATTR HWY_NOINLINE void run_crossed_neighbours(const Tile& t, int64_t first, int64_t count, const Epilogue& e) {
  V32 sums[P][2];
  const int32_t* offsets = t.offsets + first * t.taps;
  const int32_t* starts = t.pixel_starts + first;
  int64_t at = (t.first_pixel + first) * e.pixel_stride + t.first_channel;
  for (; count > 0; --count, offsets += P * t.taps, starts += P, at += P * e.pixel_stride) {
    start_sums(t, starts, sums);
    const int8_t* weights = t.weights;
    for (int64_t tap = 0; tap < t.taps; ++tap) {
      const int16_t* x[P];
      point_to_runs(t, offsets + tap, x);
      weights = add_crossed(x, weights, t.steps / 2, sums);
    }
    // Only now: its constants would take registers from the sums.
    const Sixteen sixteen(t, e);
    sixteen.write<K>(sums, e, at);
  }
}

/// The same for single runs that lie one after the other.
template <int P, Kind K>
HWY_ATTR HWY_NOINLINE void run_crossed_line(const Tile& t, int64_t first, int64_t count, const Epilogue& e) {
  V32 sums[P][2];
  const auto* source = static_cast<const int16_t*>(t.source) + t.offsets[first];
  const int32_t* starts = t.pixel_starts + first;
  const int64_t distance = t.run_distance, steps = t.steps / 2;
  int64_t at = (t.first_pixel + first) * e.pixel_stride + t.first_channel;
  for (; count > 0; --count, source += P * distance, starts += P, at += P * e.pixel_stride) {
    start_sums(t, starts, sums);
    const int16_t* x[P];
#pragma GCC unroll 8
    for (int p = 0; p < P; ++p) x[p] = source + p * distance;
    add_crossed(x, t.weights, steps, sums);
    const Sixteen sixteen(t, e);
    sixteen.write<K>(sums, e, at);
  }
}

/// run(P, first, count) for all pixels: groups of the most, and one of the rest.
template <class Run>
void in_groups(int64_t pixels, int64_t most, const Run& run) {
  const int64_t full = pixels / most, rest = pixels % most;
  if (full > 0) run(most, 0, full);
  if (rest > 0) run(rest, full * most, 1);
}

using SumGroups = void (*)(const Tile&, int64_t first, int64_t count, int32_t* sums);

template <int U, size_t... P>
constexpr std::array<SumGroups, sizeof...(P)> group_sums(std::index_sequence<P...>) {
  return {sum_crossed<static_cast<int>(P) + 1, U>...};
}

/// Any runs, any results: what follows the sums waits until all are there, as its constants take a while to load.
template <int U>
void run_crossed_any(const Tile& t, const Epilogue& e) {
  constexpr int64_t kMost = most_crossed_pixels(U);
  static constexpr auto kTable = group_sums<U>(std::make_index_sequence<kMost>());
  HWY_ALIGN int32_t sums[kCrossedGroups * kMost * U * kN];
  in_groups(t.pixels, kMost, [&](int64_t size, int64_t first, int64_t count) {
    kTable[static_cast<size_t>(size - 1)](t, first, count, sums);
  });
  finish(sums, U * kN, t, e);
}

using RunPixelGroups = void (*)(const Tile&, int64_t first, int64_t count, const Epilogue&);

template <Kind K>
void run_crossed_codes(const Tile& t, const Epilogue& e) {
  static constexpr std::array<RunPixelGroups, 4> kNeighbours = {
      run_crossed_neighbours<1, K>, run_crossed_neighbours<2, K>, run_crossed_neighbours<3, K>,
      run_crossed_neighbours<4, K>};
  static constexpr std::array<RunPixelGroups, 4> kLine = {run_crossed_line<1, K>, run_crossed_line<2, K>,
                                                          run_crossed_line<3, K>, run_crossed_line<4, K>};
  const auto& table = t.run_distance > 0 ? kLine : kNeighbours;
  in_groups(t.pixels, 4, [&](int64_t size, int64_t first, int64_t count) {
    table[static_cast<size_t>(size - 1)](t, first, count, e);
  });
}

void run_crossed(const Tile& t, const Epilogue& e) {
  if (crossed_registers(t.channels) == 1) return run_crossed_any<1>(t, e);
  if (t.channels < kLanes || t.places != nullptr || e.codes == nullptr || e.activation != Activation::kNone) {
    return run_crossed_any<2>(t, e);
  }
  if (e.other == nullptr) return run_crossed_codes<Kind::kCodes>(t, e);
  if (e.middle) return run_crossed_codes<Kind::kMiddle>(t, e);
  run_crossed_codes<Kind::kResidual>(t, e);
}

int64_t crossed_group_pixels(int64_t channels) { return most_crossed_pixels(crossed_registers(channels)); }
int64_t crossed_tile_pixels(int64_t channels) { return kCrossedGroups * crossed_group_pixels(channels); }

HWY_ATTR void crossed_pixel_starts(const Tile& t, int32_t* starts) {
  constexpr int64_t kPixels = 4;
  const hn::Half<D32> d;
  for (int64_t p = 0; p < t.pixels; p += kPixels) {
    const int64_t count = HWY_MIN(kPixels, t.pixels - p);
    auto sum = hn::Zero(d);
    for (int64_t tap = 0; tap < t.taps; ++tap) {
      const int16_t* x[kPixels];
      for (int64_t k = 0; k < kPixels; ++k) {
        const int32_t offset = t.offsets[(p + HWY_MIN(k, count - 1)) * t.taps + tap];
        x[k] = offset < 0 ? static_cast<const int16_t*>(t.padding) : static_cast<const int16_t*>(t.source) + offset;
      }
      sum = hn::Sub(sum, crossed_pixel_sums(x, t.steps / 2));
    }
    HWY_ALIGN int32_t lanes[kPixels];
    hn::Store(sum, d, lanes);
    std::memcpy(starts + p, lanes, static_cast<size_t>(count) * sizeof(int32_t));
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace tsquant::kernels
HWY_AFTER_NAMESPACE();

#endif

#if HWY_ONCE
namespace tsquant::kernels {

const CrossedKernel* crossed_kernel(Isa isa) {
#if HWY_TARGETS & HWY_AVX2
  static constexpr CrossedKernel kAvx2 = {N_AVX2::crossed_group_pixels, N_AVX2::crossed_tile_pixels,
                                          N_AVX2::run_crossed, N_AVX2::crossed_pixel_starts};
  if (isa == Isa::kAvx2) return &kAvx2;
#endif
  return nullptr;
}

}  // namespace tsquant::kernels
#endif

#include "numerics/row_loops.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

// Compiled for machines with AVX2 too; LibTorch needs no more than SSE4. Only with optimization, since sanitizers do
// not go together with functions that are chosen when the program is loaded.
#if defined(__x86_64__) && defined(__OPTIMIZE__)
#define TSQUANT_CLONES __attribute__((target_clones("avx2", "default")))
#define TSQUANT_INLINE __attribute__((always_inline)) inline
#else
#define TSQUANT_CLONES
#define TSQUANT_INLINE inline
#endif

namespace tsquant {

namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

// Vectors of the compiler; without AVX2 each becomes two. They go by reference, since how they would go by value
// depends on the instruction set.
constexpr int kLanes = 8;
typedef float Floats __attribute__((vector_size(kLanes * sizeof(float))));
typedef int32_t Masks __attribute__((vector_size(kLanes * sizeof(int32_t))));

TSQUANT_INLINE void load(const float* x, Floats& values) { std::memcpy(&values, x, sizeof(values)); }

/// Comparisons with NaN are false, so that NaN is passed over.
TSQUANT_INLINE void take_in(const Floats& below, const Floats& above, Floats& low, Floats& high) {
  low = below < low ? below : low;
  high = above > high ? above : high;
}

/// Every lane becomes the lowest one of `low`, the highest one of `high`.
TSQUANT_INLINE void join_lanes(Floats& low, Floats& high) {
  take_in(__builtin_shufflevector(low, low, 4, 5, 6, 7, 0, 1, 2, 3),
          __builtin_shufflevector(high, high, 4, 5, 6, 7, 0, 1, 2, 3), low, high);
  take_in(__builtin_shufflevector(low, low, 2, 3, 0, 1, 6, 7, 4, 5),
          __builtin_shufflevector(high, high, 2, 3, 0, 1, 6, 7, 4, 5), low, high);
  take_in(__builtin_shufflevector(low, low, 1, 0, 3, 2, 5, 4, 7, 6),
          __builtin_shufflevector(high, high, 1, 0, 3, 2, 5, 4, 7, 6), low, high);
}

/// @param size at least kLanes
/// @param nan set to -1 in a lane that saw NaN
TSQUANT_INLINE void range_of_row(const float* x, int64_t size, Masks& nan, float& lowest, float& highest) {
  Floats low, values;
  load(x, low);
  Floats high = low;
  nan |= low != low;
  for (int64_t i = kLanes; i < size; i += kLanes) {
    load(x + (i + kLanes <= size ? i : size - kLanes), values);  // the last ones may be seen twice
    take_in(values, values, low, high);
    nan |= values != values;
  }
  join_lanes(low, high);
  lowest = low[0];
  highest = high[0];
}

/// @return whether a value is NaN
TSQUANT_INLINE bool ranges_of_long_rows(const float* x, int64_t rows, int64_t size, float* low, float* high) {
  Masks nan = {};
  for (int64_t row = 0; row < rows; ++row) range_of_row(x + row * size, size, nan, low[row], high[row]);
  bool any = false;
  for (int lane = 0; lane < kLanes; ++lane) any |= nan[lane] != 0;
  return any;
}

TSQUANT_INLINE bool ranges_of_short_rows(const float* x, int64_t rows, int64_t size, float* low, float* high) {
  bool nan = false;
  for (int64_t row = 0; row < rows; ++row, x += size) {
    low[row] = high[row] = x[0];
    for (int64_t i = 0; i < size; ++i) {
      low[row] = x[i] < low[row] ? x[i] : low[row];
      high[row] = x[i] > high[row] ? x[i] : high[row];
      nan |= x[i] != x[i];
    }
  }
  return nan;
}

/// Adding and subtracting it rounds to an integer, as std::nearbyint does, without a call.
constexpr float kRounder = 12582912.0F;

constexpr float kEps = std::numeric_limits<float>::epsilon();

/// Scales that are too small become this one, whatever their sign.
TSQUANT_INLINE float not_too_small(float scale) { return std::fabs(scale) < kEps ? kEps : scale; }

}  // namespace

TSQUANT_CLONES void encode_rows(const float* x, int64_t rows, int64_t size, const float* scale, const float* zero_point,
                                const CodeBounds& bounds, uint8_t* codes) {
  const float low = bounds.low, high = bounds.high;
  for (int64_t row = 0; row < rows; ++row) {
    const float of_row = scale[row], zero = zero_point[row];
    const float* from = x + row * size;
    uint8_t* to = codes + row * size;
    for (int64_t i = 0; i < size; ++i) {
      const float scaled = from[i] / of_row + zero;
      const float bounded = scaled > low ? (scaled < high ? scaled : high) : low;
      to[i] = static_cast<uint8_t>(static_cast<int>((bounded + kRounder) - kRounder));
    }
  }
}

TSQUANT_CLONES void ranges_of_rows(const float* x, int64_t rows, int64_t size, float* low, float* high) {
  const bool nan =
      size < kLanes ? ranges_of_short_rows(x, rows, size, low, high) : ranges_of_long_rows(x, rows, size, low, high);
  if (!nan) return;
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t i = row * size; i < (row + 1) * size; ++i) {
      if (x[i] != x[i]) low[row] = high[row] = kNan;
    }
  }
}

TSQUANT_CLONES bool are_ranges(const float* low, const float* high, int64_t count) {
  constexpr float kLargest = std::numeric_limits<float>::max();
  int bad = 0;
  for (int64_t i = 0; i < count; ++i) {
    const bool finite = std::fabs(low[i]) <= kLargest && std::fabs(high[i]) <= kLargest;
    bad |= finite && low[i] <= high[i] ? 0 : 1;
  }
  return bad == 0;
}

TSQUANT_CLONES void asymmetric_parameters(const float* low, const float* high, int64_t count, const CodeBounds& bounds,
                                          float* scale, int64_t* zero_point) {
  const float lowest = bounds.low, highest = bounds.high, levels = highest - lowest;
  for (int64_t i = 0; i < count; ++i) {
    const float size = not_too_small((high[i] - low[i]) / levels), begin = low[i] / size;
    // Beyond these numbers, which lie within what kRounder rounds, the zero point is the last code anyhow.
    const float near = begin > -1024 ? (begin < 1024 ? begin : 1024) : -1024;
    const float zero = lowest - ((near + kRounder) - kRounder);
    scale[i] = size;
    zero_point[i] = static_cast<int32_t>(zero > lowest ? (zero < highest ? zero : highest) : lowest);
  }
}

TSQUANT_CLONES RangeExtremes extremes_of_ranges(const float* low, const float* high, int64_t count) {
  Floats widths = {}, distances = {}, bottom, top;
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    load(low + i, bottom);
    load(high + i, top);
    const Floats width = top - bottom, distance = bottom > -top ? bottom : -top;
    widths = width > widths ? width : widths;
    distances = distance > distances ? distance : distances;
  }
  RangeExtremes result;
  for (int lane = 0; lane < kLanes; ++lane) {
    result.width = std::max(result.width, widths[lane]);
    result.distance = std::max(result.distance, distances[lane]);
  }
  for (; i < count; ++i) {
    result.width = std::max(result.width, high[i] - low[i]);
    result.distance = std::max({result.distance, low[i], -high[i]});
  }
  return result;
}

TSQUANT_CLONES void symmetric_scales(const float* low, const float* high, int64_t count, float largest, float* scale) {
  for (int64_t i = 0; i < count; ++i) {
    const float below = std::fabs(low[i]);
    scale[i] = not_too_small((below >= high[i] ? below : -high[i]) / largest);
  }
}

}  // namespace tsquant

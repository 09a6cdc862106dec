#include "numerics/row_loops.h"

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

constexpr float kInfinity = std::numeric_limits<float>::infinity(), kNan = std::numeric_limits<float>::quiet_NaN();

/// Independent lanes, which become vectors.
template <int kLanes>
struct Lanes {
  float low[kLanes], high[kLanes];
};

/// Comparisons with NaN are false, so that NaN is passed over.
template <int kLanes>
TSQUANT_INLINE void take_in(Lanes<kLanes>& lanes, int j, float value) {
  lanes.low[j] = value < lanes.low[j] ? value : lanes.low[j];
  lanes.high[j] = value > lanes.high[j] ? value : lanes.high[j];
}

/// @param nan set to -1 in a lane that saw NaN
template <int kLanes>
TSQUANT_INLINE void range_of_row(const float* x, int64_t size, int* nan, float& low, float& high) {
  Lanes<kLanes> lanes;
  for (int j = 0; j < kLanes; ++j) lanes.low[j] = kInfinity;
  for (int j = 0; j < kLanes; ++j) lanes.high[j] = -kInfinity;
  int64_t i = 0;
  for (; i + kLanes <= size; i += kLanes) {
    for (int j = 0; j < kLanes; ++j) take_in(lanes, j, x[i + j]);
    for (int j = 0; j < kLanes; ++j) nan[j] |= x[i + j] != x[i + j] ? -1 : 0;
  }
  for (; i < size; ++i) {
    take_in(lanes, 0, x[i]);
    nan[0] |= x[i] != x[i] ? -1 : 0;
  }
  for (int width = kLanes / 2; width > 0; width /= 2) {
    for (int j = 0; j < width; ++j) {
      lanes.low[j] = lanes.low[j + width] < lanes.low[j] ? lanes.low[j + width] : lanes.low[j];
      lanes.high[j] = lanes.high[j + width] > lanes.high[j] ? lanes.high[j + width] : lanes.high[j];
    }
  }
  low = lanes.low[0];
  high = lanes.high[0];
}

/// @return whether a value is NaN
template <int kLanes>
TSQUANT_INLINE bool ranges(const float* x, int64_t rows, int64_t size, float* low, float* high) {
  int nan[kLanes] = {};
  for (int64_t row = 0; row < rows; ++row) range_of_row<kLanes>(x + row * size, size, nan, low[row], high[row]);
  bool any = false;
  for (int j = 0; j < kLanes; ++j) any |= nan[j] != 0;
  return any;
}

}  // namespace

TSQUANT_CLONES void encode_rows(const float* x, int64_t rows, int64_t size, const float* scale, const float* zero_point,
                                const CodeBounds& bounds, uint8_t* codes) {
  // Adding and subtracting it rounds to an integer, as std::nearbyint does, without a call.
  constexpr float kRounder = 12582912.0F;
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
  constexpr int kMany = 32, kFew = 8;
  const bool nan = size < kMany ? ranges<kFew>(x, rows, size, low, high) : ranges<kMany>(x, rows, size, low, high);
  if (!nan) return;
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t i = row * size; i < (row + 1) * size; ++i) {
      if (x[i] != x[i]) low[row] = high[row] = kNan;
    }
  }
}

}  // namespace tsquant

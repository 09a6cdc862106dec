#include "numerics/row_loops.h"

#include <limits>

// Compiled for machines with AVX2 too; LibTorch needs no more than SSE4. Only with optimization, since sanitizers do not
// go together with functions that are chosen when the program is loaded.
#if defined(__x86_64__) && defined(__OPTIMIZE__)
#define TSQUANT_CLONES __attribute__((target_clones("avx2", "default")))
#else
#define TSQUANT_CLONES
#endif

namespace tsquant {

TSQUANT_CLONES void encode_row(const float* x, int64_t n, const IntegerGrid& grid, uint8_t* codes) {
  // Adding and subtracting it rounds to an integer, as std::nearbyint does, without a call.
  constexpr float kRounder = 12582912.0F;
  const float scale = grid.scale, zero_point = grid.zero_point, low = grid.low, high = grid.high;
  for (int64_t i = 0; i < n; ++i) {
    const float scaled = x[i] / scale + zero_point;
    const float bounded = scaled > low ? (scaled < high ? scaled : high) : low;
    codes[i] = static_cast<uint8_t>(static_cast<int>((bounded + kRounder) - kRounder));
  }
}

TSQUANT_CLONES void range_of_row(const float* x, int64_t n, float& smallest, float& largest) {
  // Independent lanes, which become vectors.
  constexpr int kLanes = 16;
  float low[kLanes], high[kLanes];
  int nan[kLanes];
  for (int j = 0; j < kLanes; ++j) {
    low[j] = std::numeric_limits<float>::infinity();
    high[j] = -std::numeric_limits<float>::infinity();
    nan[j] = 0;
  }
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    for (int j = 0; j < kLanes; ++j) {
      const float value = x[i + j];
      low[j] = value < low[j] ? value : low[j];
      high[j] = value > high[j] ? value : high[j];
      nan[j] |= value != value ? -1 : 0;
    }
  }
  for (int j = 0; i < n; ++i, ++j) {
    low[j] = x[i] < low[j] ? x[i] : low[j];
    high[j] = x[i] > high[j] ? x[i] : high[j];
    nan[j] |= x[i] != x[i] ? -1 : 0;
  }
  for (int width = kLanes / 2; width > 0; width /= 2) {
    for (int j = 0; j < width; ++j) {
      low[j] = low[j + width] < low[j] ? low[j + width] : low[j];
      high[j] = high[j + width] > high[j] ? high[j + width] : high[j];
      nan[j] |= nan[j + width];
    }
  }
  smallest = nan[0] != 0 ? std::numeric_limits<float>::quiet_NaN() : low[0];
  largest = nan[0] != 0 ? std::numeric_limits<float>::quiet_NaN() : high[0];
}

}  // namespace tsquant

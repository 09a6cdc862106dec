#include <algorithm>
#include <cmath>

#include "kernels/activation.h"
#include "kernels/igemm.h"

namespace tsquant::kernels {
namespace {

constexpr int64_t kMostChannels = 4 * kLanes;

void finish_one(int32_t sum, int64_t channel, int64_t pixel, const Epilogue& e) {
  const int64_t at = pixel * e.pixel_stride + channel;
  float f = std::fma(static_cast<float>(sum), e.multiplier[channel], e.bias[channel]);
  if (e.floats != nullptr) {
    // Written so that a NaN fails both comparisons and stays.
    if (f < e.float_low) f = e.float_low;
    if (f > e.float_high) f = e.float_high;
    e.floats[at] = f;
    return;
  }
  if (e.activation != Activation::kNone) {
    e.codes[at] = activated_code(f, channel, e);
    return;
  }
  if (e.other != nullptr) {
    if (e.middle) {
      f = std::min(e.middle_high, std::max(e.middle_low, std::nearbyint(f))) * e.middle_multiplier;
    }
    f = std::fma(static_cast<float>(e.other[at]) - e.other_zero_point, e.other_multiplier, f);
  }
  const int32_t code = static_cast<int32_t>(std::nearbyint(f)) + e.zero_point;
  e.codes[at] = static_cast<uint8_t>(std::min(e.high, std::max(e.low, code)));
}

}  // namespace

void run_scalar(const Tile& t, const Epilogue& e) {
  const int64_t width = t.vectors * kLanes;
  for (int64_t p = 0; p < t.pixels; ++p) {
    int32_t sums[kMostChannels] = {};
    const int8_t* w = t.weights;
    for (int64_t tap = 0; tap < t.taps; ++tap) {
      const int32_t offset = t.offsets[p * t.taps + tap];
      const auto* x = static_cast<const uint8_t*>(offset < 0 ? t.padding : t.source) + std::max(offset, 0);
      for (int64_t k = 0; k < t.steps; ++k, w += width) {
        const int32_t value = x[k];
        for (int64_t lane = 0; lane < width; ++lane) sums[lane] += value * w[lane];
      }
    }
    const int64_t pixel = t.out_pixel(p);
    for (int64_t lane = 0; lane < t.channels; ++lane) finish_one(sums[lane], t.first_channel + lane, pixel, e);
  }
}

}  // namespace tsquant::kernels

#pragma once

#include <cstdint>

#include "kernels/epilogue.h"

namespace tsquant::kernels {

/// Channels of one vector of packed weights. Rows with narrower registers use several for one vector.
constexpr int64_t kLanes = 16;

/// One tile of an indirect convolution: sums over `taps` runs of `steps` steps for several output pixels and up to four
/// vectors of output channels. The elements of the source are bytes or 16-bit integers, as the row of the table says.
struct Tile {
  const void* source = nullptr;      ///< first element of the image for this panel of channels
  const int32_t* offsets = nullptr;  ///< [pixel][tap]: elements from `source`; negative: the padding
  const void* padding = nullptr;     ///< one run of the input's zero point
  const int8_t* weights = nullptr;   ///< [tap][step][vector][16 channels][k of a step], 64-byte aligned
  const int8_t* prefetch = nullptr;  ///< weights that will be needed next, fetched into the second-level cache
  int64_t prefetch_step = 0;         ///< bytes of them per step
  int64_t taps = 0, steps = 0;
  int vectors = 1;            ///< 1..4
  int64_t channels = 16;      ///< channels to write, <= 16 * vectors
  int64_t first_channel = 0;  ///< of the panel in the output
  int64_t first_pixel = 0;    ///< of the tile in the output
  int64_t pixels = 0;         ///< pixels to write, at most what the row asks for
  /// What the sums of each pixel and of each channel begin with: kernels of crossed.h only.
  const int32_t* pixel_starts = nullptr;
  const int32_t* channel_starts = nullptr;
  int64_t run_distance = 0;         ///< between the single runs of two neighbouring pixels; 0: only `offsets` tell
  const int32_t* places = nullptr;  ///< output pixels of the tile relative to first_pixel; null: one after the other

  int64_t out_pixel(int64_t p) const { return first_pixel + (places == nullptr ? p : places[p]); }
};

}  // namespace tsquant::kernels

#pragma once

#include <cstdint>

#include "kernels/epilogue.h"

namespace tsquant::kernels {

/// Output channels of one full group: four vectors of sixteen.
constexpr int64_t kGroupChannels = 64;

/// Pixels that one tile computes for a group of `vectors` x 16 channels, chosen so that the sums, the weights and one
/// broadcast fit into the 32 registers.
constexpr int tile_pixels(int vectors) { return vectors == 4 ? 7 : vectors == 3 ? 8 : vectors == 2 ? 12 : 16; }

/// One tile of an indirect convolution: sums over `taps` runs of 4 * `steps` bytes for several output pixels.
struct Tile {
  const uint8_t* source = nullptr;
  const int32_t* offsets = nullptr;  ///< [pixel][tap]: byte offset from `source`; negative: the padding
  const uint8_t* padding = nullptr;  ///< 4 * steps bytes of the input's zero point
  const int8_t* weights = nullptr;   ///< [tap][step][vector][16 channels][4 bytes], 64-byte aligned
  const int8_t* prefetch = nullptr;  ///< weights that will be needed next, fetched into the second-level cache
  int64_t prefetch_step = 0;         ///< bytes of them per step
  int64_t taps = 0, steps = 0;
  int vectors = 4;            ///< 1..4
  int64_t channels = 64;      ///< channels to write, <= 16 * vectors
  int64_t first_channel = 0;  ///< of the group
  int64_t first_pixel = 0;    ///< of the tile
  int64_t pixels = 0;         ///< pixels to write, <= tile_pixels(vectors)
};

/// Computes one tile with AVX512-VNNI. Must only be called when has_vnni().
void run_vnni_tile(const Tile& tile, const Epilogue& epilogue);

}  // namespace tsquant::kernels

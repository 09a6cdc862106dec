#pragma once

#include <cstdint>

#include "kernels/gemm_tile.h"
#include "kernels/isa.h"

// Sums of products with half of the multiplications (S. Winograd, "A new algorithm for inner product", 1968). For every
// four values x and weights w
//   (x0 + w2)(x2 + w0) + (x1 + w3)(x3 + w1) = x0 w0 + x1 w1 + x2 w2 + x3 w3 + (x0 x2 + x1 x3) + (w0 w2 + w1 w3),
// where the first bracket is the same for all channels of a pixel and the second for all pixels of a channel: sums
// begin with their negatives. In instructions: vpaddw twice, vpmaddwd, vpaddd in place of vpmaddwd, vpaddd twice. That
// is as many, but processors with AVX2 alone have up to four ports for additions and one or two for products. All of it
// is exact: factors fit into 16 bits (codes and weights of 8 bits, and their Winograd transforms), and sums may wrap
// around on the way.
namespace tsquant::kernels {

/// Values of one step; runs are padded to a multiple.
constexpr int64_t kCrossedStep = 4;

/// Another form of a row of the kernel table with 16-bit sources and pairs of weights. Same packed weights, same bits;
/// needs Tile::pixel_starts and Tile::channel_starts, and an even number of steps.
struct CrossedKernel {
  int64_t (*group_pixels)(int64_t channels);
  int64_t (*tile_pixels)(int64_t channels);
  void (*run)(const Tile& tile, const Epilogue& epilogue);
  /// What the sums of each pixel of the tile begin with.
  void (*pixel_starts)(const Tile& tile, int32_t* starts);
};

/// Null where it is no faster than pairs.
const CrossedKernel* crossed_kernel(Isa isa);

/// What the sums of each of 16 channels begin with. weights: [pairs][16][2]
template <typename Weight>
void crossed_channel_starts(const Weight* weights, int64_t pairs, int32_t* starts) {
  for (int64_t lane = 0; lane < kLanes; ++lane) {
    uint32_t sum = 0;
    for (int64_t i = 0; i < pairs; i += 2) {
      const Weight *low = weights + (i * kLanes + lane) * 2, *high = low + 2 * kLanes;
      sum += static_cast<uint32_t>(int32_t{low[0]} * high[0] + int32_t{low[1]} * high[1]);
    }
    starts[lane] = static_cast<int32_t>(0u - sum);
  }
}

}  // namespace tsquant::kernels

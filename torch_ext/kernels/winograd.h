#pragma once

#include <cstdint>
#include <vector>

#include "kernels/aligned_buffer.h"
#include "kernels/conv_geometry.h"
#include "kernels/gemm_tile.h"
#include "kernels/isa.h"

// Exact integer Winograd convolution F(2x2, 3x3): a tile of 2 x 2 results costs 16 products per pair of channels
// instead of 36. Input tiles become B^T d B, weights (2G) g (2G)^T, their products A^T m A, which is four times the
// sum. All of it is integer arithmetic: transformed codes lie within 1020, transformed weights within 1152, so both fit
// into 16 bits, and sums of their products may wrap around on the way as long as the result fits, which is proved at
// packing. It pays where 16-bit products are as fast as any: not with 8-bit dot products (VNNI).
namespace tsquant::kernels {

/// A 4 x 4 window per tile, and 16 planes, one per position in it.
constexpr int64_t kWinogradWindow = 4, kWinogradPlanes = 16;

/// Some neighbouring tiles of one row of tiles.
struct WinogradRun {
  int64_t image = 0, row = 0, column = 0;  ///< of the first tile, counted in tiles
  int64_t tiles = 0, first = 0;            ///< how many; where the first lies in its block
};

/// The loops of one instruction set, compiled by Highway.
struct WinogradKernel {
  const char* name;
  Isa isa;
  bool (*supports)();
  /// B^T d B of neighbouring tiles. pixels: [4][2 * tiles + 2] pointers to the codes of a pixel; out: the first channel
  /// of the first tile in the first plane, strides in elements.
  void (*transform)(const uint8_t* const* pixels, int64_t tiles, int64_t channels, int16_t* out, int64_t tile_stride,
                    int64_t plane_stride);
  /// products[tile][16] = sum over channels of input[tile][channel] * weights[channel / 2][16][channel % 2].
  void (*multiply)(const int16_t* input, int64_t tile_stride, const int16_t* weights, int64_t channels, int64_t tiles,
                   int32_t* products);
  /// A^T m A of the tiles of a run, then what follows the sums. products: of the first tile; sums: room for
  /// [2][2 * tiles][16] of them; top: the results of the upper row; `bottom` pixels further the lower one, or 0.
  void (*finish)(const int32_t* products, int64_t plane_stride, int64_t tiles, int32_t* sums, const Tile& top,
                 int64_t bottom, const Epilogue& epilogue);
};

/// All that are compiled in, worst first.
const std::vector<WinogradKernel>& winograd_table();

/// The kernel for a row of the table of igemm.h, or null where that row is the better way.
const WinogradKernel* winograd_kernel(Isa isa);

/// A convolution packed for one of them. Same bits as PackedConv.
class WinogradConv {
 public:
  /// Dense two-dimensional 3x3 convolutions with stride 1 whose channels fill vectors and whose results are exact.
  static bool supports(const ConvGeometry& geometry, const int8_t* weight);

  /// Whether this is faster than PackedConv for an input of this size.
  static bool pays(const ConvGeometry& geometry);

  WinogradConv(const WinogradKernel& kernel, const int8_t* weight, const ConvGeometry& geometry);

  /// @param source channels-last codes; @param epilogue of the one phase
  void run(const ConvGeometry& geometry, const uint8_t* source, uint8_t input_zero_point,
           const Epilogue& epilogue) const;

 private:
  struct Job;
  struct Block;

  Block block_of(const Job& job, int64_t index) const;
  void transform_block(const Job& job, const Block& block) const;
  void run_panel(const Job& job, const Block& block, int64_t panel) const;
  void run_range(const Job& job, int64_t begin, int64_t end) const;

  const WinogradKernel& kernel_;
  int64_t channels_, out_channels_, panels_;
  AlignedBuffer weights_;  ///< int16 [panel][plane][channel / 2][16][channel % 2]
};

}  // namespace tsquant::kernels

// Products of many rows of floats with rows of weights that are floats for a while: what a linear layer does with a
// whole prompt. One lane is one row of inputs, and every sum runs over its elements in their order, so that the width
// of registers, the number of rows and that of threads change no bit; only processors without a fused multiply-add
// (SSE4, plain C++) round the single products too.
#pragma once

#include <cstdint>

namespace tsquant::kernels {

/// Rows of inputs in one tile.
int64_t gemm_tile_inputs();

/// Rows of weights in one tile, at most.
constexpr int64_t kGemmTileRows = 6;

/// A tile of inputs, [n][gemm_tile_inputs()], zero where there are less.
void pack_gemm_inputs(const float* x, int64_t stride, int64_t inputs, int64_t n, float* packed);

/// sums[row][input] = products of `count` elements, added to what is there unless `first`.
/// @param weights rows, each `weight_stride` floats behind the one before
/// @param packed a tile of inputs, from the first of these elements
void gemm_tile(const float* weights, int64_t weight_stride, int64_t rows, int64_t count, const float* packed,
               bool first, float* sums, int64_t sum_stride);

/// to[column][row] = from[row][column] + addend[row]. @param addend or null
void transpose(const float* from, int64_t from_stride, int64_t rows, int64_t columns, const float* addend, float* to,
               int64_t to_stride);

}  // namespace tsquant::kernels

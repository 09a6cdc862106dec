// Highway compiles this file once per instruction set.
#include <algorithm>

#include "kernels/compressed_gemm.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/compressed_gemm_loops.cpp"
#include "hwy/foreach_target.h"
// The order matters: foreach_target.h first.
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace tsquant::kernels {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using DTile = hn::ScalableTag<float>;
using VTile = hn::Vec<DTile>;

// Six rows times two vectors of sums, the inputs and one weight fill 16 registers.
constexpr int kTileVectors = 2;

int64_t tile_inputs_target() { return kTileVectors * static_cast<int64_t>(hn::Lanes(DTile())); }

template <int kRows>
HWY_INLINE void tile_of(const float* weights, int64_t weight_stride, int64_t count, const float* packed, bool first,
                        float* sums, int64_t sum_stride) {
  const DTile d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  VTile sum[kRows][kTileVectors];
#pragma GCC unroll 6
  for (int row = 0; row < kRows; ++row) sum[row][0] = sum[row][1] = hn::Zero(d);
  for (int64_t k = 0; k < count; ++k, packed += kTileVectors * lanes) {
    const VTile x0 = hn::LoadU(d, packed), x1 = hn::LoadU(d, packed + lanes);
#pragma GCC unroll 6
    for (int row = 0; row < kRows; ++row) {
      const VTile weight = hn::Set(d, weights[row * weight_stride + k]);
      sum[row][0] = hn::MulAdd(x0, weight, sum[row][0]);
      sum[row][1] = hn::MulAdd(x1, weight, sum[row][1]);
    }
  }
#pragma GCC unroll 6
  for (int row = 0; row < kRows; ++row) {
    for (int v = 0; v < kTileVectors; ++v) {
      float* to = sums + row * sum_stride + v * lanes;
      hn::StoreU(first ? sum[row][v] : hn::Add(hn::LoadU(d, to), sum[row][v]), d, to);
    }
  }
}

void tile_target(const float* weights, int64_t weight_stride, int64_t rows, int64_t count, const float* packed,
                 bool first, float* sums, int64_t sum_stride) {
  switch (rows) {
    case 1:
      return tile_of<1>(weights, weight_stride, count, packed, first, sums, sum_stride);
    case 2:
      return tile_of<2>(weights, weight_stride, count, packed, first, sums, sum_stride);
    case 3:
      return tile_of<3>(weights, weight_stride, count, packed, first, sums, sum_stride);
    case 4:
      return tile_of<4>(weights, weight_stride, count, packed, first, sums, sum_stride);
    case 5:
      return tile_of<5>(weights, weight_stride, count, packed, first, sums, sum_stride);
    default:
      return tile_of<6>(weights, weight_stride, count, packed, first, sums, sum_stride);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace tsquant::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE

namespace tsquant::kernels {

HWY_EXPORT(tile_inputs_target);
HWY_EXPORT(tile_target);

int64_t gemm_tile_inputs() { return HWY_DYNAMIC_DISPATCH(tile_inputs_target)(); }

void pack_gemm_inputs(const float* x, int64_t stride, int64_t inputs, int64_t n, float* packed) {
  const int64_t width = gemm_tile_inputs();
  constexpr int64_t kBlock = 64;  // of elements: what a cache line of each row holds, four times
  for (int64_t begin = 0; begin < n; begin += kBlock) {
    const int64_t end = std::min(n, begin + kBlock);
    for (int64_t input = 0; input < width; ++input) {
      for (int64_t k = begin; k < end; ++k) packed[k * width + input] = input < inputs ? x[input * stride + k] : 0.0F;
    }
  }
}

void gemm_tile(const float* weights, int64_t weight_stride, int64_t rows, int64_t count, const float* packed,
               bool first, float* sums, int64_t sum_stride) {
  HWY_DYNAMIC_DISPATCH(tile_target)(weights, weight_stride, rows, count, packed, first, sums, sum_stride);
}

}  // namespace tsquant::kernels
#endif  // HWY_ONCE

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

#if HWY_TARGET != HWY_SCALAR && HWY_TARGET != HWY_EMU128  // which compilers call vectors differs

/// Four rows by four columns.
HWY_INLINE void transpose_block(const float* from, int64_t from_stride, const float* addend, float* to,
                                int64_t to_stride) {
  const hn::FixedTag<float, 4> d;
  const hn::FixedTag<double, 2> pairs;
  const auto row = [&](int i) { return hn::LoadU(d, from + i * from_stride); };
  const auto lower01 = hn::BitCast(pairs, hn::InterleaveLower(d, row(0), row(1)));
  const auto upper01 = hn::BitCast(pairs, hn::InterleaveUpper(d, row(0), row(1)));
  const auto lower23 = hn::BitCast(pairs, hn::InterleaveLower(d, row(2), row(3)));
  const auto upper23 = hn::BitCast(pairs, hn::InterleaveUpper(d, row(2), row(3)));
  const auto store = [&](int column, auto four) {
    const auto value = hn::BitCast(d, four);
    hn::StoreU(addend == nullptr ? value : hn::Add(value, hn::LoadU(d, addend)), d, to + column * to_stride);
  };
  store(0, hn::InterleaveLower(pairs, lower01, lower23));
  store(1, hn::InterleaveUpper(pairs, lower01, lower23));
  store(2, hn::InterleaveLower(pairs, upper01, upper23));
  store(3, hn::InterleaveUpper(pairs, upper01, upper23));
}
#endif

void transpose_target(const float* from, int64_t from_stride, int64_t rows, int64_t columns, const float* addend,
                      float* to, int64_t to_stride) {
  int64_t whole_rows = 0, whole_columns = 0;
#if HWY_TARGET != HWY_SCALAR && HWY_TARGET != HWY_EMU128
  whole_rows = rows / 4 * 4;
  whole_columns = columns / 4 * 4;
  for (int64_t column = 0; column < whole_columns; column += 4) {
    for (int64_t row = 0; row < whole_rows; row += 4) {
      transpose_block(from + row * from_stride + column, from_stride, addend == nullptr ? nullptr : addend + row,
                      to + column * to_stride + row, to_stride);
    }
  }
#endif
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t column = row < whole_rows ? whole_columns : 0; column < columns; ++column) {
      const float value = from[row * from_stride + column];
      to[column * to_stride + row] = addend == nullptr ? value : value + addend[row];
    }
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace tsquant::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE

namespace tsquant::kernels {

HWY_EXPORT(tile_inputs_target);
HWY_EXPORT(tile_target);
HWY_EXPORT(transpose_target);

int64_t gemm_tile_inputs() { return HWY_DYNAMIC_DISPATCH(tile_inputs_target)(); }

void transpose(const float* from, int64_t from_stride, int64_t rows, int64_t columns, const float* addend, float* to,
               int64_t to_stride) {
  HWY_DYNAMIC_DISPATCH(transpose_target)(from, from_stride, rows, columns, addend, to, to_stride);
}

void pack_gemm_inputs(const float* x, int64_t stride, int64_t inputs, int64_t n, float* packed) {
  const int64_t width = gemm_tile_inputs();
  if (inputs < width) std::fill_n(packed, n * width, 0.0F);
  constexpr int64_t kAtOnce = 4;  // more rows a power of two apart would share too few lines of the cache
  for (int64_t input = 0; input < inputs; input += kAtOnce) {
    transpose(x + input * stride, stride, std::min(kAtOnce, inputs - input), n, nullptr, packed + input, width);
  }
}

void gemm_tile(const float* weights, int64_t weight_stride, int64_t rows, int64_t count, const float* packed,
               bool first, float* sums, int64_t sum_stride) {
  HWY_DYNAMIC_DISPATCH(tile_target)(weights, weight_stride, rows, count, packed, first, sums, sum_stride);
}

}  // namespace tsquant::kernels
#endif  // HWY_ONCE

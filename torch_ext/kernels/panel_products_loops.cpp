// Tiles of panel products. Highway compiles this file once per instruction set.
#include "kernels/panel_products.h"

#include <array>
#include <cmath>
#include <cstring>
#include <utility>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/panel_products_loops.cpp"
#include "hwy/foreach_target.h"
// The order matters: foreach_target.h first.
#include "hwy/highway.h"
#include "kernels/epilogue-inl.h"

HWY_BEFORE_NAMESPACE();
namespace tsquant::kernels {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

#if HWY_TARGET == HWY_SSE4 || HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_AVX3

constexpr int kPanelRegisters = static_cast<int>(kPanelColumns) / kN;
/// Rows of a tile: the sums, one step of the panel and a broadcast fill the 16 (AVX512: 32) registers.
constexpr int kTileRows = kN == 4 ? 2 : kN == 8 ? 6 : 12;

HWY_ATTR HWY_INLINE hn::Vec<D16> panel_register(const int16_t* step, int u) {
  return hn::Load(D16(), step + u * 2 * kN);
}
HWY_ATTR HWY_INLINE VF panel_register(const float* step, int u) { return hn::Load(DF(), step + u * kN); }

HWY_ATTR HWY_INLINE hn::Vec<D16> everywhere(const int16_t* left) {
  int32_t pair;
  std::memcpy(&pair, left, sizeof(pair));
  return hn::BitCast(D16(), hn::Set(D32(), pair));
}
HWY_ATTR HWY_INLINE VF everywhere(const float* left) { return hn::Set(DF(), *left); }

HWY_ATTR HWY_INLINE V32 plus_product(hn::Vec<D16> a, hn::Vec<D16> b, V32 sum) {
  V32 unused = hn::Zero(D32());  // the second half of the sums of other architectures
  return hn::ReorderWidenMulAccumulate(D32(), a, b, sum, unused);
}
HWY_ATTR HWY_INLINE VF plus_product(VF a, VF b, VF sum) { return fused(a, b, sum); }

/// Keeps gcc from reading all rows of a step first, where registers run out: such statements stay in their order.
template <class V>
HWY_ATTR HWY_INLINE V in_order(V v) {
#if HWY_TARGET == HWY_AVX2
  asm volatile("" : "+x"(v.raw));
#elif HWY_TARGET == HWY_AVX3
  asm volatile("" : "+v"(v.raw));
#endif
  return v;
}

/// P rows of one panel.
template <int P, typename Value, typename Sum>
HWY_ATTR HWY_NOINLINE void multiply_tile(const PanelProduct<Value, Sum>& product, int64_t row, int64_t panel) {
  const hn::ScalableTag<Sum> d;
  constexpr int64_t kStep = kPanelStep<Value>;
  hn::Vec<decltype(d)> sums[P][kPanelRegisters];
#pragma GCC unroll 12
  for (int p = 0; p < P; ++p) {
#pragma GCC unroll 4
    for (int u = 0; u < kPanelRegisters; ++u) sums[p][u] = hn::Zero(d);
  }
  const Value* left = product.left + row * product.left_row;
  const Value* right = product.right + panel * product.steps * kStep * kPanelColumns;
  const int64_t distance = product.left_row;
  for (int64_t i = 0; i < product.steps; ++i, left += kStep, right += kStep * kPanelColumns) {
    hn::VFromD<hn::ScalableTag<Value>> b[kPanelRegisters];
#pragma GCC unroll 4
    for (int u = 0; u < kPanelRegisters; ++u) b[u] = panel_register(right, u);
#pragma GCC unroll 12
    for (int p = 0; p < P; ++p) {
      const auto a = in_order(everywhere(left + p * distance));
#pragma GCC unroll 4
      for (int u = 0; u < kPanelRegisters; ++u) sums[p][u] = plus_product(a, b[u], sums[p][u]);
    }
  }
  Sum* out = product.out + row * product.out_row + panel * kPanelColumns;
#pragma GCC unroll 12
  for (int p = 0; p < P; ++p, out += product.out_row) {
#pragma GCC unroll 4
    for (int u = 0; u < kPanelRegisters; ++u) hn::StoreU(sums[p][u], d, out + u * kN);
  }
}

template <typename Value, typename Sum>
using MultiplyTile = void (*)(const PanelProduct<Value, Sum>&, int64_t row, int64_t panel);

template <typename Value, typename Sum, size_t... P>
constexpr std::array<MultiplyTile<Value, Sum>, sizeof...(P)> tiles(std::index_sequence<P...>) {
  return {multiply_tile<static_cast<int>(P) + 1, Value, Sum>...};
}

template <typename Value, typename Sum>
void multiply_panels(const PanelProduct<Value, Sum>& product) {
  static constexpr auto kTiles = tiles<Value, Sum>(std::make_index_sequence<kTileRows>());
  // Tiles of nearly equal size: a short one at the end would take as long as a full one.
  const int64_t tiles = (product.rows + kTileRows - 1) / kTileRows;
  for (int64_t panel = 0; panel < product.panels; ++panel) {
    for (int64_t tile = 0; tile < tiles; ++tile) {
      const int64_t row = product.rows * tile / tiles, next = product.rows * (tile + 1) / tiles;
      kTiles[static_cast<size_t>(next - row - 1)](product, row, panel);
    }
  }
}

#else

inline int32_t plus_products(const int16_t* a, const int16_t* b, int32_t sum) {
  return sum + a[0] * b[0] + a[1] * b[1];
}
inline float plus_products(const float* a, const float* b, float sum) { return std::fma(*a, *b, sum); }

template <typename Value, typename Sum>
void multiply_panels(const PanelProduct<Value, Sum>& product) {
  constexpr int64_t kStep = kPanelStep<Value>;
  for (int64_t row = 0; row < product.rows; ++row) {
    for (int64_t column = 0; column < product.panels * kPanelColumns; ++column) {
      const int64_t panel = column / kPanelColumns, at = column % kPanelColumns;
      const Value* left = product.left + row * product.left_row;
      const Value* right = product.right + (panel * product.steps * kPanelColumns + at) * kStep;
      Sum sum = 0;
      for (int64_t i = 0; i < product.steps; ++i) {
        sum = plus_products(left + i * kStep, right + i * kPanelColumns * kStep, sum);
      }
      product.out[row * product.out_row + column] = sum;
    }
  }
}

#endif

void multiply_codes(const CodeProduct& product) { multiply_panels(product); }
void multiply_floats(const FloatProduct& product) { multiply_panels(product); }

}  // namespace HWY_NAMESPACE
}  // namespace tsquant::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace tsquant::kernels {
HWY_EXPORT(multiply_codes);
HWY_EXPORT(multiply_floats);
void multiply(const CodeProduct& product) { HWY_DYNAMIC_DISPATCH(multiply_codes)(product); }
void multiply(const FloatProduct& product) { HWY_DYNAMIC_DISPATCH(multiply_floats)(product); }
}  // namespace tsquant::kernels
#endif

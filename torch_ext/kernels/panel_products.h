// Products of two matrices that both are computed while the model runs. The right one lies in panels of 16 columns:
// codes as [panel][step][16][2], where a step is two neighbours of the sum, floats as [panel][step][16], where it is
// one. What is behind the last column or an odd sum is 0.
//
// Sums of codes are exact. Sums of floats add one product after the other, each with one rounding (fused
// multiply-add), in the order of the sum. So all instruction sets give the same bits.
#pragma once

#include <cstdint>

namespace tsquant::kernels {

constexpr int64_t kPanelColumns = 16;

/// Codes less their zero points lie within +-255, so so many products stay below 2^31.
constexpr int64_t kMostExactProducts = (int64_t{1} << 31) / (255 * 255) - 1;

/// Values of the sum that one step of a panel takes.
template <typename Value>
constexpr int64_t kPanelStep = sizeof(Value) == 2 ? 2 : 1;

/// out[row][column] for `rows` rows and `panels` panels of columns.
template <typename Value, typename Sum>
struct PanelProduct {
  const Value* left = nullptr;  ///< [rows][steps * kPanelStep]
  int64_t left_row = 0;         ///< distance between its rows
  const Value* right = nullptr;
  int64_t steps = 0, rows = 0, panels = 0;
  Sum* out = nullptr;
  int64_t out_row = 0;
};
using CodeProduct = PanelProduct<int16_t, int32_t>;
using FloatProduct = PanelProduct<float, float>;

void multiply(const CodeProduct& product);
void multiply(const FloatProduct& product);

}  // namespace tsquant::kernels

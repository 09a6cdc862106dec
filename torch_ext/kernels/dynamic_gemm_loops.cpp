// Highway compiles this file once per instruction set.
#include <algorithm>
#include <cstring>

#include "kernels/dynamic_gemm.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/dynamic_gemm_loops.cpp"
#include "hwy/foreach_target.h"
// The order matters: foreach_target.h first.
#include "hwy/highway.h"
#include "kernels/byte_products-inl.h"

HWY_BEFORE_NAMESPACE();
namespace tsquant::kernels {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

#if TSQUANT_BYTE_PRODUCTS
constexpr int kTileInputs = 4, kTileVectors = 2;

/// Sums of 8 steps stay within 16 bits: 8 * 2 * 15 * 127 = 30480.
constexpr int64_t kStepsIn16Bits = 8;

/// One group of a tile: kInputs rows of inputs, kTileVectors vectors of rows of weights.
template <ProductStep kStep, int kInputs>
class GroupSums {
 public:
  HWY_INLINE GroupSums() {
#pragma GCC unroll 4
    for (int i = 0; i < kInputs; ++i) sums_[i][0] = sums_[i][1] = hn::Zero(D32());
  }

  /// @param codes of the weights, of this tile's vectors @param x of the first input
  HWY_INLINE void add(const uint8_t* codes, const uint8_t* x, int64_t stride, int64_t steps) {
    if constexpr (kStep == ProductStep::kTwoHalves) {
      for (int64_t step = 0; step < steps; ++step) add_step(codes + step * kStepBytes, x + 4 * step, stride, sums_);
    } else {
      for (; steps >= kStepsIn16Bits; steps -= kStepsIn16Bits) {
        add_bytes<kStepsIn16Bits>(codes, x, stride);
        codes += kStepsIn16Bits * kStepBytes;
        x += 4 * kStepsIn16Bits;
      }
      for (; steps > 0; --steps, codes += kStepBytes, x += 4) add_bytes<1>(codes, x, stride);
    }
  }

  HWY_INLINE V32 at(int input, int vector) const { return sums_[input][vector]; }

 private:
  static constexpr int64_t kStepBytes = 4 * kPanelRows;

  static HWY_INLINE V16 added(V16 sum, VCode weight, VCode x) { return hn::Add(sum, byte_pairs(weight, x)); }
  static HWY_INLINE V32 added(V32 sum, VCode weight, VCode x) {
    return add_pairs(sum, hn::BitCast(D16(), weight), hn::BitCast(D16(), x));
  }

  template <class V>
  static HWY_INLINE void add_step(const uint8_t* codes, const uint8_t* x, int64_t stride,
                                  V (&sums)[kInputs][kTileVectors]) {
    const DCode d;
    const VCode w0 = hn::LoadU(d, codes), w1 = hn::LoadU(d, codes + kBytes);
#pragma GCC unroll 4
    for (int i = 0; i < kInputs; ++i) {
      int32_t four = 0;
      std::memcpy(&four, x + i * stride, sizeof(four));
      const VCode input = hn::BitCast(d, hn::Set(D32(), four));
      keep_sum(sums[i][0] = added(sums[i][0], w0, input));
      keep_sum(sums[i][1] = added(sums[i][1], w1, input));
    }
  }

  template <int64_t kSteps>
  HWY_INLINE void add_bytes(const uint8_t* codes, const uint8_t* x, int64_t stride) {
    V16 sums[kInputs][kTileVectors];
#pragma GCC unroll 4
    for (int i = 0; i < kInputs; ++i) sums[i][0] = sums[i][1] = hn::Zero(D16());
#pragma GCC unroll 8
    for (int64_t step = 0; step < kSteps; ++step) add_step(codes + step * kStepBytes, x + 4 * step, stride, sums);
#pragma GCC unroll 4
    for (int i = 0; i < kInputs; ++i) {
      for (int v = 0; v < kTileVectors; ++v) sums_[i][v] = add_pairs(sums_[i][v], sums[i][v]);
    }
  }

  V32 sums_[kInputs][kTileVectors];
};

/// @param panel,rows copies: the compiler knows that no store of a total changes them
template <ProductStep kStep, int kInputs>
HWY_NOINLINE void tile_of(const DynamicPanel panel, const DynamicRows rows, float* totals) {
  const DReal d;
  for (int64_t row = 0; row < kPanelRows; row += kTileVectors * kWords) {
    const uint8_t* codes = panel.codes + 4 * row;
    const uint8_t* x = rows.codes;
    for (int64_t group = 0; group < panel.groups; ++group) {
      GroupSums<kStep, kInputs> sums;
      sums.add(codes, x, rows.stride, panel.steps);
      codes += 4 * kPanelRows * panel.steps;
      x += 4 * panel.steps;
      const int32_t* zeros = panel.zeros + group * kPanelRows + row;
      const float* scales = panel.scales + group * kPanelRows + row;
#pragma GCC unroll 4
      for (int i = 0; i < kInputs; ++i) {
        const V32 input_sum = hn::Set(D32(), rows.sums[i * rows.group_stride + group]);
        const VReal input_scale = hn::Set(d, rows.scales[i * rows.group_stride + group]);
        float* total = totals + i * kPanelRows + row;
#pragma GCC unroll 2
        for (int v = 0; v < kTileVectors; ++v, total += kWords) {
          hn::StoreU(add_group(hn::LoadU(d, total), sums.at(i, v), zeros + v * kWords, scales + v * kWords, input_sum,
                               input_scale),
                     d, total);
        }
      }
    }
  }
}

template <ProductStep kStep>
void gemm_of(const DynamicPanel& panel, const DynamicRows& rows, float* totals) {
  const auto from = [&](int64_t input) {
    DynamicRows rest = rows;
    rest.codes += input * rows.stride;
    rest.scales += input * rows.group_stride;
    rest.sums += input * rows.group_stride;
    return rest;
  };
  int64_t i = 0;
  for (; i + kTileInputs <= rows.inputs; i += kTileInputs) {
    tile_of<kStep, kTileInputs>(panel, from(i), totals + i * kPanelRows);
  }
  for (; i < rows.inputs; ++i) tile_of<kStep, 1>(panel, from(i), totals + i * kPanelRows);
}

void dynamic_gemm_target(const DynamicPanel& panel, const DynamicRows& rows, float* totals) {
  if (panel.step == ProductStep::kFourBytes) return gemm_of<ProductStep::kFourBytes>(panel, rows, totals);
  gemm_of<ProductStep::kTwoHalves>(panel, rows, totals);
}

#else

int32_t product_of(ProductStep step, const uint8_t* weight, const uint8_t* x) {
  int32_t sum = 0;
  if (step == ProductStep::kFourBytes) {
    for (int k = 0; k < 4; ++k) sum += weight[k] * static_cast<int8_t>(x[k]);
    return sum;
  }
  int16_t weights[2], inputs[2];
  std::memcpy(weights, weight, sizeof(weights));
  std::memcpy(inputs, x, sizeof(inputs));
  return weights[0] * inputs[0] + weights[1] * inputs[1];
}

void dynamic_gemm_target(const DynamicPanel& panel, const DynamicRows& rows, float* totals) {
  for (int64_t i = 0; i < rows.inputs; ++i) {
    for (int64_t group = 0; group < panel.groups; ++group) {
      const int64_t of_input = i * rows.group_stride + group;
      int32_t sums[kPanelRows] = {};
      for (int64_t step = group * panel.steps; step < (group + 1) * panel.steps; ++step) {
        for (int64_t row = 0; row < kPanelRows; ++row) {
          sums[row] += product_of(panel.step, panel.codes + 4 * (step * kPanelRows + row),
                                  rows.codes + i * rows.stride + 4 * step);
        }
      }
      for (int64_t row = 0; row < kPanelRows; ++row) {
        const int64_t of_row = group * kPanelRows + row;
        float& total = totals[i * kPanelRows + row];
        total = add_group(total, sums[row], panel.zeros[of_row], panel.scales[of_row], rows.sums[of_input],
                          rows.scales[of_input]);
      }
    }
  }
}
#endif

}  // namespace HWY_NAMESPACE
}  // namespace tsquant::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE

namespace tsquant::kernels {

HWY_EXPORT(dynamic_gemm_target);

void dynamic_gemm(const DynamicPanel& panel, const DynamicRows& rows, float* totals) {
  HWY_DYNAMIC_DISPATCH(dynamic_gemm_target)(panel, rows, totals);
}

}  // namespace tsquant::kernels
#endif  // HWY_ONCE

// What attention does with rows of scores between its two products, and with the sums of the second: plain pointers, one
// thread, SIMD chosen at run time (isa.h limits it). Every instruction set gives the same bits: no fused multiply-adds,
// and sums in a fixed order.
#pragma once

#include <cstdint>

namespace tsquant::kernels {

constexpr int64_t kMostMasks = 4;
/// Rows of scores are padded to a multiple of so many values, whose exponential is 0.
constexpr int64_t kScoreLanes = 16;

/// A row of scores that become exponentials, in place.
struct ScoreRow {
  /// `padded` values: exact sums of products of codes (int32) or floats; then floats.
  void* values = nullptr;
  bool sums = true;
  int64_t n = 0, padded = 0;
  float factor = 1;  ///< of the sums, before the masks
  /// Added one after the other: n floats each.
  const float* masks[kMostMasks] = {};
  int64_t mask_count = 0;
};

/// exp(score - largest score) within 2e-7 of the value, exactly 0 below exp(-87). Returns the sum of the row, added in 16
/// lanes, then lane i to lane i + 8, 4, 2 and 1. A row without a finite score becomes NaN, as in LibTorch.
float exponentials(const ScoreRow& row);

/// Where results of one scale go: code = round(value), between low and high, + zero_point. NaN becomes `low`.
struct RoundedRange {
  float low = 0, high = 255;  ///< less the zero point
  int32_t zero_point = 0;
};

/// out[i] = round(x[i] * factor) within [low, high], for i < n, a multiple of kScoreLanes: codes less their zero point.
void round_row(const float* x, int64_t n, float factor, const RoundedRange& range, int16_t* out);

/// out[i] = sums[i] * factor for i < n; sums are int32 (exact) or floats.
void scale_row(const int32_t* sums, int64_t n, float factor, float* out);
void scale_row(const float* sums, int64_t n, float factor, float* out);
/// The same as codes of the type that the bytes are said to be.
void quantize_row(const int32_t* sums, int64_t n, float factor, const RoundedRange& range, bool is_signed,
                  uint8_t* out);
void quantize_row(const float* sums, int64_t n, float factor, const RoundedRange& range, bool is_signed, uint8_t* out);

}  // namespace tsquant::kernels

// What attention does with rows of scores between its two products, and with the sums of the second: plain pointers,
// one thread, SIMD chosen at run time (isa.h limits it). Every instruction set gives the same bits: no fused
// multiply-adds, and sums in a fixed order.
#pragma once

#include <cstdint>

namespace tsquant::kernels {

constexpr int64_t kMostMasks = 4;
/// Rows of scores are padded to a multiple of so many values, whose exponential is 0.
constexpr int64_t kScoreLanes = 16;

/// Rows of scores that become exponentials, in place.
struct ScoreRows {
  /// `padded` values each, `row` apart: exact sums of products of codes (int32) or floats; then floats.
  void* values = nullptr;
  bool sums = true;
  int64_t row = 0, rows = 0, n = 0, padded = 0;
  float factor = 1;  ///< of the sums, before the masks
  /// Added one after the other: n floats for each row.
  struct Mask {
    const float* values;
    int64_t row;
  };
  Mask masks[kMostMasks] = {};
  int64_t mask_count = 0;
};

/// exp(score - largest score of the row) within 2e-7 of the value, exactly 0 below exp(-87). `totals` are the sums of
/// the rows, added in 16 lanes, then lane i to lane i + 8, 4, 2 and 1. A row without a finite score becomes NaN, as in
/// LibTorch.
void exponentials(const ScoreRows& scores, float* totals);

/// Where results of one scale go: code = round(value), between low and high, + zero_point. NaN becomes `low`.
struct RoundedRange {
  float low = 0, high = 255;  ///< less the zero point
  int32_t zero_point = 0;
};

/// Rows of sums (int32: exact, or floats), each with a factor.
template <typename Sum>
struct SumRows {
  const Sum* sums = nullptr;
  int64_t row = 0, rows = 0, n = 0;
  const float* factors = nullptr;
};

/// round(sum * factor) within the bounds: codes less their zero point, rows as far apart as the sums. n is a multiple
/// of kScoreLanes.
void round_rows(const SumRows<float>& x, const RoundedRange& range, int16_t* out);

/// sum * factor
void scale_rows(const SumRows<int32_t>& x, float* out, int64_t out_row);
void scale_rows(const SumRows<float>& x, float* out, int64_t out_row);
/// The same as codes of the type that the bytes are said to be.
void quantize_rows(const SumRows<int32_t>& x, const RoundedRange& range, bool is_signed, uint8_t* out, int64_t out_row);
void quantize_rows(const SumRows<float>& x, const RoundedRange& range, bool is_signed, uint8_t* out, int64_t out_row);

}  // namespace tsquant::kernels

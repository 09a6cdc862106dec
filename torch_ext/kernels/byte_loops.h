// The inner loops over codes: plain pointers, one thread, SIMD chosen at run time (isa.h limits it). Codes of qint8 are
// passed as bytes too; `is_signed` says how to read them. Every instruction set gives the same bits: float operations
// are those of LibTorch's reference, in its order, without fused multiply-adds. Pointers need no alignment; results
// must not overlap the sources.
#pragma once

#include <cstdint>

namespace tsquant::kernels {

enum class Binary { kAdd, kMul };

/// out = quantize(dequantize(a) op dequantize(b)), clamped to [low, high].
/// |zero points| <= 2^22. NaN (of infinite products) becomes `low`.
struct BinaryParams {
  Binary op = Binary::kAdd;
  bool is_signed = false;
  float scale_a = 1, scale_b = 1;
  float inverse_out = 1;  ///< inverse_scale(scale of the result)
  int32_t zero_point_a = 0, zero_point_b = 0, zero_point = 0;
  int32_t low = 0, high = 255;  ///< low is the zero point for a fused relu
};

/// `rows` rows of n codes, each operand with its own distance between rows (0: the same row again). When `b_repeats`, a
/// row of b is a single code.
struct BinaryRows {
  const uint8_t* a = nullptr;
  const uint8_t* b = nullptr;
  uint8_t* out = nullptr;
  int64_t a_row = 0, b_row = 0, out_row = 0;
  int64_t rows = 1, n = 0;
  bool b_repeats = false;
};
void binary_codes(const BinaryRows& r, const BinaryParams& p);

/// out[row * out_row + i] = table[x[row * x_row + i]] for i < n; `table` has 256 bytes and is indexed by the byte, also
/// for signed codes.
void lookup_bytes(const uint8_t* x, int64_t x_row, int64_t rows, int64_t n, const uint8_t* table, uint8_t* out,
                  int64_t out_row);

/// out[i] = largest of source[k][i] over k < count, for i < n; count >= 1.
void max_of_rows(const uint8_t* const* source, int64_t count, int64_t n, bool is_signed, uint8_t* out);

/// out = quantize((sum of dequantized codes, added one after the other in float) / divisor[0] / divisor[1] ...).
struct AverageParams {
  bool is_signed = false;
  float scale = 1, inverse_out = 1;
  int divisions = 1;  ///< 1 to 3
  float divisor[3] = {1, 1, 1};
  int32_t in_zero_point = 0, zero_point = 0;
  int32_t low = 0, high = 255;
};
/// out[i] = average of source[k][i] over k < count, for i < n. count = 0 averages nothing: 0 / divisor.
void average_of_rows(const uint8_t* const* source, int64_t count, int64_t n, const AverageParams& p, uint8_t* out);

/// sums[i] += sum over rows of x[row * n + i], for i < n; the caller keeps rows * 255 below 2^31.
void add_rows(const uint8_t* x, int64_t x_row, int64_t rows, int64_t n, bool is_signed, int32_t* sums);

/// Sum of n codes.
int64_t sum_codes(const uint8_t* x, int64_t n, bool is_signed);

}  // namespace tsquant::kernels

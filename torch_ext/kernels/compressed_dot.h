// Products of rows of packed codes with a few rows of floats: what a linear layer does while it generates tokens. The
// codes are read once, and become floats in registers.
//
// Integers are not moved to the places of numbers: a 32-bit word holds several codes, a mask leaves one of them, and
// its conversion gives code * 2^place. The inputs are divided by 2^place beforehand, which is exact. Zero points cost
// one product per step: sums begin with -zero * (sum of the inputs).
//
// Sums have one order, whatever the width of registers and the number of rows: every step of a row goes into eight
// partial sums, which are multiplied with the scales and added to eight totals. Processors with a fused multiply-add
// (AVX2, AVX512, NEON) give the same bits. Those without (SSE4, plain C++) give the same bits among themselves, which
// differ from the former by the rounding of single products.
#pragma once

#include <cstdint>

#include "kernels/compressed_loops.h"

namespace tsquant::kernels {

/// Codes that share a scale, at least. Blocks of a row are numbered from its first code.
constexpr int64_t kCodeBlock = 32;

/// How codes become floats.
enum class DotForm {
  kFields,        ///< integers of 2, 3, 4 or 8 bits: converted where they stand in 32-bit words
  kIntegerTable,  ///< 4 bits, levels that are multiples of a power of two: looked up as bytes, then as kFields
  kShortTable,    ///< 4 bits, levels whose lower 16 bits are zero: two lookups
  kLongTable,     ///< 4 bits: four lookups
  kBytes,         ///< 8 bits that are no integers
  kValues,        ///< floats, which need no scale
};

/// What the rows of weights are made of, and the order that inputs have to be in.
class DotFormat {
 public:
  /// Packed codes of 2, 3 or 4 bits, or bytes of 8.
  /// @param table of kTable16 and kTable256; the object keeps the pointer
  DotFormat(int bits, LevelKind kind, const float* table);
  /// Values: bits() is 32.
  DotFormat();

  DotForm form() const { return form_; }
  int bits() const { return bits_; }
  LevelKind kind() const { return kind_; }
  const float* table() const { return table_; }

  /// Codes of one step of the loop, a multiple of kCodeBlock. Rows and inputs end with zeros up to a whole step.
  int64_t step() const { return bits_ >= 8 ? kCodeBlock : bits_ == 4 ? 2 * kCodeBlock : 4 * kCodeBlock; }
  int64_t padded(int64_t n) const { return (n + step() - 1) / step() * step(); }
  /// Bytes of a row of n codes, a multiple of step().
  int64_t row_bytes(int64_t n) const { return n / 8 * bits_; }

  /// Whether rows have zero points. Those of integers without are zero().
  bool has_zeros() const { return form_ == DotForm::kFields || form_ == DotForm::kIntegerTable; }
  float zero() const { return zero_; }
  /// What a level of 1 stands for.
  float unit() const { return unit_; }

  /// The order of inputs: element_at(p) is the element of a step that stands at p, times factor_at(p).
  int element_at(int position) const;
  float factor_at(int position) const;
  /// Floats of an arranged step: with zero points, eight sums follow, less than zero.
  int64_t arranged_step() const { return step() + (has_zeros() ? 8 : 0); }
  int64_t arranged(int64_t n) const { return padded(n) / step() * arranged_step(); }

  /// Byte k of the levels of 16 codes: what a shuffle of bytes looks up. The bytes of kIntegerTable are plane 0.
  const uint8_t* plane(int k) const { return planes_[k]; }

 private:
  void take_levels();
  bool take_integer_levels();

  DotForm form_ = DotForm::kValues;
  int bits_ = 32;
  LevelKind kind_ = LevelKind::kSigned;
  const float* table_ = nullptr;
  float zero_ = 0, unit_ = 1;
  alignas(16) uint8_t planes_[4][16] = {};
};

/// n inputs in the order in which the codes appear, padded with zeros: format.arranged(n) floats.
void arrange_inputs(const DotFormat& format, const float* x, int64_t n, float* arranged);

/// One number per block of rows of weights.
struct BlockValues {
  const float* values = nullptr;
  int64_t row_stride = 0;
  bool per_row = false;  ///< the same for all blocks of a row; it is there four times
};

/// Rows of weights.
struct DotRows {
  const uint8_t* codes = nullptr;  ///< packed, or the bytes of values
  int64_t stride = 0;              ///< bytes from one row to the next
  int64_t count = 0;
  int64_t n = 0;  ///< codes of a row, a multiple of step()
  BlockValues scales, zeros;
};

/// sums[row * inputs + i] = row * x[i], for i < inputs.
/// @param x arranged inputs, each `stride` floats behind the one before
void dot_rows(const DotFormat& format, const DotRows& rows, const float* x, int64_t stride, int64_t inputs,
              float* sums);

}  // namespace tsquant::kernels

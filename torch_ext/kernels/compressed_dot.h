// Products of one row of packed codes with a few rows of floats: what a linear layer does while it generates tokens.
// The codes are read once, and become floats in registers.
//
// Sums have one order, whatever the width of registers and the number of rows: every block of a row goes into eight
// partial sums, which are multiplied with the scale and added to eight totals. Processors with a fused multiply-add
// (AVX2, AVX512, NEON) give the same bits. Those without (SSE4, plain C++) give the same bits among themselves, which
// differ from the former by the rounding of single products.
#pragma once

#include <cstdint>

#include "kernels/compressed_loops.h"

namespace tsquant::kernels {

/// Codes that share a scale, at least. Blocks of a row are numbered from its first code.
constexpr int64_t kCodeBlock = 32;

/// Rows of floats that one reading of the codes serves.
constexpr int64_t kMostInputs = 4;

/// What the rows of weights are made of.
class DotFormat {
 public:
  /// Packed codes of 2, 3 or 4 bits, or bytes of 8.
  /// @param table of kTable16, kTable256 and kE5M2; the object keeps the pointer
  DotFormat(int bits, LevelKind kind, const float* table);
  /// Values, which need no scale: bits() is 32.
  DotFormat();

  int bits() const { return bits_; }
  LevelKind kind() const { return kind_; }
  const float* table() const { return table_; }
  /// Codes of one step of the loop, a multiple of kCodeBlock. Rows of inputs end with zeros up to a whole step, and so
  /// do the scales and zero points of blocks.
  int64_t step() const { return bits_ >= 8 ? kCodeBlock : bits_ == 4 ? 2 * kCodeBlock : 4 * kCodeBlock; }
  int64_t padded(int64_t n) const { return (n + step() - 1) / step() * step(); }

  /// Byte k of the levels of 16 codes: what a shuffle of bytes looks up.
  const uint8_t* plane(int k) const { return planes_[k]; }
  /// Whether bytes 0 and 1 of all levels are zero.
  bool short_levels() const { return short_levels_; }

  /// The order of inputs: element_at(p) is the element of a step that stands at p.
  int element_at(int position) const;

 private:
  int bits_ = 32;
  LevelKind kind_ = LevelKind::kSigned;
  const float* table_ = nullptr;
  alignas(16) uint8_t planes_[4][16] = {};
  bool short_levels_ = false;
};

/// n inputs in the order in which the codes appear, padded with zeros.
void arrange_inputs(const DotFormat& format, const float* x, int64_t n, float* arranged);

/// One row of weights.
struct DotRow {
  const void* codes = nullptr;  ///< packed, or values
  int64_t n = 0;
  const float* scales = nullptr;  ///< one per block, 16-byte aligned
  const float* zeros = nullptr;   ///< the same for kUnsigned
};

/// sums[r] = row * x[r], for r < inputs.
/// @param x arranged rows, each `stride` floats behind the one before
/// @param scratch bytes for a whole padded row, 64-byte aligned; used when n is no multiple of step()
void dot_row(const DotFormat& format, const DotRow& row, const float* x, int64_t stride, int64_t inputs,
             uint8_t* scratch, float* sums);

}  // namespace tsquant::kernels

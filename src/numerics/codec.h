#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "numerics/level_tables.h"
#include "numerics/minifloat.h"

namespace tsquant {

/// Turns scaled values into codes and back. A code takes one byte here; those of signed integers are the bytes of int8.
/// Bytes that are no code decode to NaN.
class Codec {
 public:
  virtual ~Codec() = default;
  virtual void encode(const float* x, int64_t n, uint8_t* codes) const = 0;
  virtual void decode(const uint8_t* codes, int64_t n, float* x) const = 0;
};

/// The nearest integer, ties to even. Values beyond the last codes become these, NaN the lowest code, as in LibTorch.
class IntegerCodec : public Codec {
 public:
  IntegerCodec(int bits, bool is_signed);
  void encode(const float* x, int64_t n, uint8_t* codes) const override;
  void decode(const uint8_t* codes, int64_t n, float* x) const override;

 private:
  float low_, high_;
  bool is_signed_;
};

/// Looks levels up by their code.
class LookupCodec : public Codec {
 public:
  void decode(const uint8_t* codes, int64_t n, float* x) const override;

 protected:
  LookupCodec();
  std::array<float, 256> level_of_;
};

/// The nearest floating-point number, ties to the even mantissa; infinities saturate.
class MinifloatCodec : public LookupCodec {
 public:
  explicit MinifloatCodec(const Minifloat& format);
  void encode(const float* x, int64_t n, uint8_t* codes) const override;

 private:
  const Minifloat& format_;
};

/// The nearest of some levels, a tie to the lower one; NaN becomes the level nearest to zero.
class LevelCodec : public LookupCodec {
 public:
  explicit LevelCodec(const LevelTable& table);
  /// @throws Error kInvalidArgument when check_codebook refuses the levels
  LevelCodec(const std::vector<float>& levels, int bits);
  void encode(const float* x, int64_t n, uint8_t* codes) const override;

 private:
  void encode_by_counting(const float* x, int64_t n, uint8_t* codes) const;
  void set(const float* levels, const uint8_t* codes, size_t count);
  std::vector<float> middles_;  ///< between neighbouring levels
  std::vector<uint8_t> codes_;
  uint8_t zero_ = 0;
};

/// @throws Error kInvalidArgument when levels are not finite or not strictly ascending, less than 2, or more than codes
///         of this many bits
void check_codebook(const std::vector<float>& levels, int bits);

}  // namespace tsquant

#pragma once

#include <cstdint>
#include <string>

namespace tsquant {

/// What the codes of a quantized tensor stand for. Each format is one row of the table in src/numerics/formats.cpp;
/// `format_info` tells what the row says.
enum class Format {
  /// Integers of 2 to 8 bits, signed or unsigned: value = (code - zero_point) * scale.
  kInt2,
  kInt3,
  kInt4,
  kInt5,
  kInt6,
  kInt7,
  kInt8,
  /// Floating-point numbers of one byte (Micikevicius et al., "FP8 Formats for Deep Learning", 2022).
  kF8E4M3,  ///< 4 exponent bits, 3 mantissa bits, no infinity
  kF8E5M2,  ///< 5 exponent bits, 2 mantissa bits
};

/// In which format scales are stored, and so which scales exist.
enum class ScaleFormat {
  kFloat,  ///< any positive float32 or float16
};

/// Where values go that lie in the middle between two levels.
enum class Ties {
  kEven,  ///< to the level whose last bit is 0, as IEEE 754 and std::nearbyint do
};

/// The columns of the table that say what a format is.
struct FormatInfo {
  const char* name;    ///< as in reports, files and messages: "int4", "f8e4m3"
  int bits;            ///< of one packed code
  bool integer;        ///< codes may be signed or unsigned and have a zero point; those of other formats do not
  double largest;      ///< the largest magnitude of a level; integers: 2^(bits - 1), that of the lowest signed code
  int64_t group_size;  ///< how many values must share a scale; 0: any number
  ScaleFormat scale;   ///< what a scale may be
  Ties ties;           ///< how encoding rounds
};

const FormatInfo& format_info(Format format);

/// The name of the format, for example "int4".
inline std::string to_string(Format format) { return format_info(format).name; }

/// The integers with this many bits.
/// @throws Error kInvalidArgument when `bits` is not 2 to 8
Format integer_format(int64_t bits);

/// NNCF's names of the one-byte floating-point formats.
enum class FP8Type {
  kE4M3,  ///< Format::kF8E4M3
  kE5M2,  ///< Format::kF8E5M2
};

Format format_of(FP8Type type);

}  // namespace tsquant

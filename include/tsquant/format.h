#pragma once

#include <cstddef>
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
  /// The same in groups of 32 with power-of-two scales (OCP Microscaling Formats 1.0).
  kMxF8E4M3,
  kMxF8E5M2,
  /// E2M1: 0, 0.5, 1, 1.5, 2, 3, 4, 6 and their negatives. The formats differ in what their scales may be.
  kFp4,    ///< any scale (NNCF's FP4)
  kE2M1,   ///< power-of-two scales (NNCF's E2M1)
  kMxFp4,  ///< power-of-two scales of 32 values (OCP Microscaling Formats 1.0)
  kNvFp4,  ///< E4M3 scales of 16 values times one scale per tensor
  /// 16 levels that follow no rule.
  kNf4,         ///< quantiles of the normal distribution (QLoRA)
  kCb4,         ///< NNCF's CB4
  kIncFp4Bnb,   ///< Neural Compressor's FP4_BNB: 0, 1/16, 2, 3, 4, 6, 8, 12 and their negatives
  kIncFp4E2M1,  ///< Neural Compressor's FP4_E2M1: E2M1 with 1/16 in the place of 0.5
  /// Levels that the user gives.
  kCodebook4,  ///< 2 to 16 of them
  kCodebook8,  ///< 2 to 256 of them
};

/// In which format scales are stored, and so which scales exist.
enum class ScaleFormat {
  kFloat,       ///< any positive float32 or float16
  kPowerOfTwo,  ///< E8M0: 2^-127 to 2^127
  kE4M3,        ///< positive E4M3 numbers, times one float32 per tensor
};

/// Where values go that lie in the middle between two levels.
enum class Ties {
  kEven,  ///< to the level whose last bit is 0, as IEEE 754 and std::nearbyint do
  kDown,  ///< to the lower level
};

/// The columns of the table that say what a format is.
struct FormatInfo {
  const char* name;    ///< as in reports, files and messages: "int4", "f8e4m3"
  int bits;            ///< of one packed code
  bool integer;        ///< codes may be signed or unsigned and have a zero point; those of other formats do not
  double largest;      ///< the largest magnitude of a level; integers: 2^(bits - 1), that of the lowest signed code;
                       ///< codebooks: 0, theirs decide
  int64_t group_size;  ///< how many values must share a scale; 0: any number
  ScaleFormat scale;   ///< what a scale may be
  Ties ties;           ///< how encoding rounds
};

const FormatInfo& format_info(Format format);

/// The name of the format, for example "int4".
inline std::string to_string(Format format) { return format_info(format).name; }

/// Whether the levels are the user's, and not the format's.
inline bool has_codebook(Format format) { return format_info(format).largest == 0; }

/// The integers with this many bits.
/// @throws Error kInvalidArgument when `bits` is not 2 to 8
Format integer_format(int64_t bits);

/// The smallest format for a codebook of this many levels.
/// @throws Error kInvalidArgument when there are less than 2 or more than 256
Format codebook_format(size_t levels);

/// NNCF's names of the one-byte floating-point formats.
enum class FP8Type {
  kE4M3,  ///< Format::kF8E4M3
  kE5M2,  ///< Format::kF8E5M2
};

Format format_of(FP8Type type);

/// NNCF's QuantizationMode: what `quantize` and OpenVINOQuantizer quantize to instead of 8-bit integers.
enum class QuantizationMode { kFP8E4M3, kFP8E5M2 };
FP8Type fp8_type_of(QuantizationMode mode);

}  // namespace tsquant

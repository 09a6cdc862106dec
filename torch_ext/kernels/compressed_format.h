#pragma once

#include <c10/util/string_view.h>

#include <cstdint>
#include <vector>

#include "kernels/compressed_loops.h"

namespace tsquant::kernels {

/// How the bytes of scales are read when they are uint8.
enum class ScaleCodes {
  kNone,  ///< not at all: scales are float16 or float32
  kE8M0,  ///< 2^(byte - 127), 255 is NaN
  kE4M3,
};

/// One row of the table of compressed formats: what the operators need to know of a row of src/numerics/formats.cpp,
/// which this library does not link. The names are the same.
struct CompressedFormat {
  const char* name;
  int bits;
  LevelKind levels;         ///< kSigned stands for integers of either sign
  const float* (*table)();  ///< the levels by code, NaN for bytes that are no code; null: integers and codebooks
  ScaleCodes scale_codes;

  bool integer() const { return levels == LevelKind::kSigned; }
  bool has_codebook() const { return !integer() && table == nullptr; }
};

const std::vector<CompressedFormat>& compressed_formats();

/// @throws c10::Error that lists the names
const CompressedFormat& compressed_format(c10::string_view name);

/// Bytes of one packed row of `size` codes; see src/numerics/pack.h for their order.
int64_t packed_row_size(int64_t size, int bits);

}  // namespace tsquant::kernels

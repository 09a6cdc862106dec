#include "kernels/compressed_format.h"

#include <c10/util/Exception.h>

#include <array>
#include <limits>
#include <string>

#include "numerics/level_tables.h"
#include "numerics/minifloat.h"

namespace tsquant::kernels {
namespace {

using Levels = std::array<float, 256>;

template <const Minifloat& kFormat>
const float* levels_of_minifloat() {
  static const Levels levels = [] {
    Levels l;
    l.fill(std::numeric_limits<float>::quiet_NaN());
    for (int code = 0; code < 2 * kFormat.sign_bit(); ++code) {
      l[static_cast<size_t>(code)] = decode(static_cast<uint8_t>(code), kFormat);
    }
    return l;
  }();
  return levels.data();
}

template <const LevelTable& kTable>
const float* levels_of_table() {
  static const Levels levels = [] {
    Levels l;
    l.fill(std::numeric_limits<float>::quiet_NaN());
    for (int i = 0; i < kTable.count; ++i) {
      l[static_cast<size_t>(kTable.codes == nullptr ? i : kTable.codes[i])] = kTable.levels[i];
    }
    return l;
  }();
  return levels.data();
}

}  // namespace

// Columns: name, bits, levels, their table, codes of scales.
const std::vector<CompressedFormat>& compressed_formats() {
  constexpr auto kInteger = LevelKind::kSigned, kFew = LevelKind::kTable16, kMany = LevelKind::kTable256;
  constexpr auto kNone = ScaleCodes::kNone, kE8M0 = ScaleCodes::kE8M0;
  static const std::vector<CompressedFormat> table = {
      {"int2", 2, kInteger, nullptr, kNone},
      {"int3", 3, kInteger, nullptr, kNone},
      {"int4", 4, kInteger, nullptr, kNone},
      {"int5", 5, kInteger, nullptr, kNone},
      {"int6", 6, kInteger, nullptr, kNone},
      {"int7", 7, kInteger, nullptr, kNone},
      {"int8", 8, kInteger, nullptr, kNone},
      {"f8e4m3", 8, LevelKind::kE4M3, levels_of_minifloat<kE4M3>, kNone},
      {"f8e5m2", 8, kMany, levels_of_minifloat<kE5M2>, kNone},
      {"mxfp8_e4m3", 8, LevelKind::kE4M3, levels_of_minifloat<kE4M3>, kE8M0},
      {"mxfp8_e5m2", 8, kMany, levels_of_minifloat<kE5M2>, kE8M0},
      {"fp4", 4, kFew, levels_of_minifloat<kE2M1>, kNone},
      {"e2m1", 4, kFew, levels_of_minifloat<kE2M1>, kE8M0},
      {"mxfp4", 4, kFew, levels_of_minifloat<kE2M1>, kE8M0},
      {"nvfp4", 4, kFew, levels_of_minifloat<kE2M1>, ScaleCodes::kE4M3},
      {"nf4", 4, kFew, levels_of_table<kNf4Table>, kNone},
      {"cb4", 4, kFew, levels_of_table<kCb4Table>, kNone},
      {"fp4_e2m1_bnb", 4, kFew, levels_of_table<kFp4BnbTable>, kNone},
      {"fp4_e2m1", 4, kFew, levels_of_table<kFp4E2M1Table>, kNone},
      {"codebook4", 4, kFew, nullptr, kNone},
      {"codebook8", 8, kMany, nullptr, kNone},
  };
  return table;
}

const CompressedFormat& compressed_format(c10::string_view name) {
  std::string names;
  for (const CompressedFormat& format : compressed_formats()) {
    if (name == format.name) return format;
    names += std::string(names.empty() ? "" : ", ") + format.name;
  }
  TORCH_CHECK(false, "tsquant: there is no compressed format \"", name.substr(0, 40), "\"; choose one of ", names);
}

int64_t packed_row_size(int64_t size, int bits) {
  int64_t bytes = 0;
  for (const int width : {8, 4, 2, 1}) {
    if ((bits & width) != 0) bytes += size / 8 * width + (size % 8 * width + 7) / 8;
  }
  return bytes;
}

}  // namespace tsquant::kernels

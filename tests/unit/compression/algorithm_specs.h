#pragma once

#include <vector>

#include "numerics/formats.h"
#include "tsquant/quantization_spec.h"

namespace tsquant::testing {

/// Every format with this many bits or less, integers both symmetric and asymmetric, in groups of 32 or of what the
/// format asks for.
inline std::vector<QuantizationSpec> group_specs(int most_bits) {
  std::vector<QuantizationSpec> specs;
  for (const FormatRow& row : formats()) {
    if (row.info.bits > most_bits) continue;
    for (const auto mode : {QuantizationScheme::kSymmetric, QuantizationScheme::kAsymmetric}) {
      if (!row.info.integer && mode == QuantizationScheme::kAsymmetric) continue;
      QuantizationSpec spec;
      spec.format = row.format;
      spec.mode = mode;
      spec.group_size = row.info.group_size > 0 ? row.info.group_size : 32;
      if (row.info.largest == 0) spec.codebook = {-4, -2, -1, 0, 1, 2, 4};
      specs.push_back(spec);
    }
  }
  return specs;
}

/// Those that data-aware algorithms are for.
inline std::vector<QuantizationSpec> low_bit_specs() { return group_specs(4); }

inline QuantizationSpec int4_groups(int64_t group_size) {
  QuantizationSpec spec;
  spec.format = Format::kInt4;
  spec.group_size = group_size;
  return spec;
}

}  // namespace tsquant::testing

#pragma once

#include <c10/util/Optional.h>

#include <cstdint>
#include <vector>

#include "tsquant/annotation.h"

namespace tsquant::openvino {

/// One candidate configuration of a quantizer (NNCF's QuantizerConfig).
struct QConfig {
  int num_bits = 8;
  QuantizationScheme mode = QuantizationScheme::kSymmetric;
  c10::optional<bool> signedness_to_force = c10::nullopt;
  bool per_channel = false;
  bool narrow_range = false;
};

using QConfigList = std::vector<QConfig>;

bool operator==(const QConfig& a, const QConfig& b);
inline bool operator!=(const QConfig& a, const QConfig& b) { return !(a == b); }

/// Order of preference among configurations with equal votes: more bits, then per tensor, then symmetric.
bool preferred_over(const QConfig& a, const QConfig& b);

/// True when a quantizer `upper` directly above `lower` makes `lower` superfluous.
bool makes_redundant(const QConfig& upper, const QConfig& lower);

/// True when quantizing with `next` after `first` only restricts the values further.
bool is_valid_requantization(const QConfig& next, const QConfig& first);

bool same_multiset(const QConfigList& a, const QConfigList& b);
bool contains(const QConfigList& list, const QConfig& config);

}  // namespace tsquant::openvino

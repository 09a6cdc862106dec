#include "quantizers/openvino/qconfig.h"

#include <algorithm>

namespace tsquant::openvino {

bool operator==(const QConfig& a, const QConfig& b) {
  return a.num_bits == b.num_bits && a.mode == b.mode && a.signedness_to_force == b.signedness_to_force &&
         a.per_channel == b.per_channel && a.narrow_range == b.narrow_range;
}

bool preferred_over(const QConfig& a, const QConfig& b) {
  if (a.num_bits != b.num_bits) return a.num_bits > b.num_bits;
  if (a.per_channel != b.per_channel) return !a.per_channel;
  return a.mode == QuantizationScheme::kSymmetric && b.mode == QuantizationScheme::kAsymmetric;
}

bool makes_redundant(const QConfig& upper, const QConfig& lower) {
  const bool mode = upper.mode == lower.mode || upper.mode == QuantizationScheme::kSymmetric;
  const bool granularity = upper.per_channel == lower.per_channel || lower.per_channel;
  return upper.num_bits == lower.num_bits && mode && granularity && upper.narrow_range == lower.narrow_range;
}

bool is_valid_requantization(const QConfig& next, const QConfig& first) {
  if (next.num_bits > first.num_bits) return false;
  if (next.mode == QuantizationScheme::kAsymmetric && first.mode == QuantizationScheme::kSymmetric) return false;
  if (!next.signedness_to_force && first.signedness_to_force) return false;
  if (next.signedness_to_force == c10::optional<bool>(true) &&
      first.signedness_to_force == c10::optional<bool>(false)) {
    return false;
  }
  return next.narrow_range == first.narrow_range;
}

bool contains(const QConfigList& list, const QConfig& config) {
  return std::find(list.begin(), list.end(), config) != list.end();
}

bool same_multiset(const QConfigList& a, const QConfigList& b) {
  return a.size() == b.size() && std::is_permutation(a.begin(), a.end(), b.begin());
}

}  // namespace tsquant::openvino

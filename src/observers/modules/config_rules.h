#pragma once

#include "tsquant/observer_module.h"

namespace tsquant {

/// What torch.ao refuses too. @throws Error kInvalidArgument
void check_observer_config(const ObserverConfig& config);

bool is_symmetric(c10::QScheme scheme);
bool is_per_channel(c10::QScheme scheme);
/// Observers that can tell scale and zero_point from minimum and maximum.
bool has_min_max(ObserverType type);

struct CodeRange {
  int64_t min, max;
};
/// The codes that scale and zero_point are for: those of dtype or the given ones, halved by reduce_range.
CodeRange code_range(const ObserverConfig& config);
/// The zero_point of symmetric schemes.
int64_t symmetric_zero(const ObserverConfig& config);

}  // namespace tsquant

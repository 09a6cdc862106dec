#pragma once

#include "tsquant/observer_module.h"
#include "tsquant/range.h"

namespace tsquant {

/// Minimum and maximum that an observer module gives its parameters from, float32 [1] or [channels]: its buffers, or
/// the range found in its histogram. Undefined tensors when no data were seen.
/// @param observer has_min_max(config.type)
/// @throws Error kCalibration for a minimum above the maximum or NaN
Range observed_range(const torch::jit::Module& observer, const ObserverConfig& config);

}  // namespace tsquant

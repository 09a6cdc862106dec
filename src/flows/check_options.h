#pragma once

#include <string>

#include "tsquant/dataset.h"
#include "tsquant/quantize_pt2e.h"

namespace tsquant {

/// Refuses values that make no sense before anything is computed.
/// @throws Error kInvalidArgument, kDataset
void check_options(const QuantizePt2eOptions& options, const Dataset& dataset);

/// The engine that the options ask for, checked before the long phases start; empty when the form needs none.
/// @throws Error kBackendUnavailable
std::string checked_engine(const QuantizePt2eOptions& options);

}  // namespace tsquant

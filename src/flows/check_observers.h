#pragma once

#include "tsquant/quantize_pt2e.h"

namespace tsquant {

/// Options of observers that no observer reads are an error; range histograms that become min and max are a warning.
/// @throws Error kInvalidArgument: range estimators or batchwise statistics, where the quantizer chose all observers
void check_observers(const Annotations& annotations, const QuantizePt2eOptions& options, Report& report);

}  // namespace tsquant

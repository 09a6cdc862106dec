#pragma once

#include "tsquant/quantizer.h"
#include "tsquant/report.h"

namespace tsquant {

/// Warns when ranges are taken per item of a batch in models where dimension 0 need not be the batch.
/// @param report describes the nodes already
void warn_about_batches(const Quantizer& quantizer, bool batchwise, Report& report);

}  // namespace tsquant

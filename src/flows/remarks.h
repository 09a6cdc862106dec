#pragma once

#include <map>
#include <string>

#include "algorithms/bias_layers.h"
#include "tsquant/quantize_pt2e.h"

namespace tsquant {

/// Options of observers that no observer reads are an error; range histograms that become min and max are a warning.
/// @throws Error kInvalidArgument: range estimators or batchwise statistics, where the quantizer chose all observers
void check_observers(const Annotations& annotations, const QuantizePt2eOptions& options, Report& report);

/// Warns when ranges are taken per item of a batch in models where dimension 0 need not be the batch.
/// @param report describes the nodes already
void warn_about_batches(const Quantizer& quantizer, bool batchwise, Report& report);

/// By layer with a quantized weight: "corrected", or "kept: " and why (NodeRecord::bias).
std::map<std::string, std::string> bias_notes(const GraphView& view, const Annotations& annotations,
                                              const std::vector<BiasRecord>& records);

}  // namespace tsquant

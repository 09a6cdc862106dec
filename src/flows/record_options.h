#pragma once

#include <map>
#include <string>

#include "tsquant/dataset.h"
#include "tsquant/quantize_pt2e.h"

namespace tsquant {

/// What every report says about how the file is made, beside the options that it holds already: version, form, the
/// quantizer with its options, and how much data there is.
/// @param dataset may be null
void record_run(Report& report, const Quantizer& quantizer, OutputForm form, const Dataset* dataset);

/// Writes into the report how the file is made: each option with the value that holds, defaults resolved.
void record_options(Report& report, const Quantizer& quantizer, const QuantizePt2eOptions& options,
                    const Dataset& dataset);

/// The options that decide which tensors calibration observes and how: keys of the statistics.
std::map<std::string, std::string> deciding_options(const Quantizer& quantizer, const QuantizePt2eOptions& options);

}  // namespace tsquant

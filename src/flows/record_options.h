#pragma once

#include <map>
#include <string>

#include "tsquant/dataset.h"
#include "tsquant/quantize_pt2e.h"

namespace tsquant {

/// Writes into the report how the file is made: each option with the value that holds, defaults resolved.
void record_options(Report& report, const Quantizer& quantizer, const QuantizePt2eOptions& options,
                    const Dataset& dataset);

/// The options that decide which tensors calibration observes and how: keys of the statistics.
std::map<std::string, std::string> deciding_options(const Quantizer& quantizer, const QuantizePt2eOptions& options);

}  // namespace tsquant

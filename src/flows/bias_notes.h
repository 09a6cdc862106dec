#pragma once

#include <map>
#include <string>

#include "algorithms/bias_layers.h"
#include "tsquant/annotation.h"

namespace tsquant {

/// By layer with a quantized weight: "corrected", or "kept: " and why (NodeRecord::bias).
std::map<std::string, std::string> bias_notes(const GraphView& view, const Annotations& annotations,
                                              const std::vector<BiasRecord>& records);

}  // namespace tsquant

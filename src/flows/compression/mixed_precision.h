#pragma once

#include <vector>

#include "flows/compression/rank_group.h"
#include "flows/compression/weight_layers.h"
#include "tsquant/compress_pt2e.h"

namespace tsquant {

/// The metric that is used: the given one, or what NNCF takes with or without data.
SensitivityMetric metric_of(const CompressPt2eOptions& options);

/// With a ratio below 1: gives the most sensitive ratio-defining weights their backup precision and fills
/// WeightRecord::score. Source: nncf mixed_precision.py.
/// @param layers with their inputs when the metric needs data
void assign_mixed_precision(std::vector<WeightLayer>& layers, const CompressPt2eOptions& options, RankGroup& ranks,
                            Report& report);

}  // namespace tsquant

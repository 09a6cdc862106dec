#pragma once

#include <string>
#include <utility>
#include <vector>

#include "tsquant/graph_view.h"
#include "tsquant/report.h"

namespace tsquant {

/// Corresponding operators of a float model and a quantized one, as node ids of their views.
using LayerPairs = std::vector<std::pair<int64_t, int64_t>>;

/// @param report of the quantized model: says which operators a kernel has absorbed; may be null
LayerPairs pair_layers(const GraphView& float_view, const GraphView& quantized_view, const Report* report);

/// Operators that a quantized form adds around float operators.
bool is_qdq(const ViewNode& node);

}  // namespace tsquant

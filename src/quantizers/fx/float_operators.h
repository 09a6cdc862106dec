#pragma once

#include <set>
#include <string>

#include "tsquant/fx/qconfig_mapping.h"
#include "tsquant/graph_view.h"

namespace tsquant::fx {

/// Names of the operators to which a mapping gives no qconfig.
std::set<std::string> float_operators(const GraphView& view, const QConfigMapping& mapping);

/// A mapping for conversion says what the one of preparation said, or nothing, and nothing about other keys.
/// @throws Error kInvalidArgument naming the first key for which this does not hold
void check_conversion_mapping(const QConfigMapping& prepared, const QConfigMapping& conversion);

}  // namespace tsquant::fx

#pragma once

#include <vector>

#include "tsquant/graph_view.h"
#include "tsquant/openvino_quantizer.h"

namespace tsquant::openvino {

/// The nodes that the scope names, by node id.
/// @param weights whether names may be those of parameters, too: they can stay in float without their operators
/// @throws Error kInvalidArgument: a rule matches nothing and the scope is validated, or a pattern is no regular
///         expression; the advice offers the nearest names
std::vector<bool> match_ignored_scope(const GraphView& view, const IgnoredScope& scope, bool weights = false);

}  // namespace tsquant::openvino

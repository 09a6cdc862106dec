#pragma once

#include <vector>

#include "tsquant/graph_view.h"
#include "tsquant/openvino_quantizer.h"

namespace tsquant::openvino {

/// The nodes that the scope names, by node id.
/// @throws Error kInvalidArgument: a rule matches nothing and the scope is validated, or a pattern is no regular
///         expression; the advice offers the nearest names
std::vector<bool> match_ignored_scope(const GraphView& view, const IgnoredScope& scope);

}  // namespace tsquant::openvino

#pragma once

#include <string>
#include <vector>

#include "quantizers/openvino/placement.h"
#include "tsquant/annotation.h"
#include "tsquant/graph_view.h"

namespace tsquant::openvino {

/// The view as placement sees it; node ids stay the same. As in NNCF's FX graph every tensor counts as floating point.
PlacementGraph make_placement_graph(const GraphView& view);

/// The placement in terms of the view. A quantizer after an operator with several results becomes one before each of
/// its consumers, and these share their parameters.
Annotations make_annotations(const Placement& placement, const PlacementGraph& graph, const GraphView& view);

}  // namespace tsquant::openvino

#pragma once

#include "quantizers/openvino/placement.h"
#include "tsquant/annotation.h"
#include "tsquant/graph_view.h"

namespace tsquant::openvino {

/// Adds a remark (a Refusal) for every member of a fused group behind the first: code "fused" when the first member
/// reads quantized tensors, "fused_with_float" when it stays in float. Members that are quantized themselves, and those
/// that the placement explains otherwise, get none.
void describe_fused(const GraphView& view, const Placement& placement, Annotations& annotations);

}  // namespace tsquant::openvino

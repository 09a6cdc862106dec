#pragma once

#include <vector>

#include "tsquant/annotation.h"
#include "tsquant/graph_view.h"

namespace tsquant::openvino {

/// Adds a remark (a Refusal) for every member of a fused group behind the first: code "fused" when the first member
/// reads quantized tensors, "fused_with_float" when it stays in float. Members that have a remark keep it.
/// @param groups node ids in topological order, as Placement::fused
void describe_fused(const GraphView& view, const std::vector<std::vector<int>>& groups, Annotations& annotations);

}  // namespace tsquant::openvino

#pragma once

#include <vector>

#include "graph/op_table.h"
#include "tsquant/graph_view.h"

namespace tsquant::openvino {

/// The row that decides about quantizers. NNCF's table names some in-place operators (`relu_`, `add_`) and forgets
/// others (`hardtanh_`, `leaky_relu_`, `sigmoid_`), and it does not meet `constant_pad_nd`, which is how older traces
/// spell `pad`. They follow the row of the operator that computes the same.
const OpInfo& placement_row(const ViewNode& node);

/// By node of the view: the operator only takes something out of a container that the caller passed (dictionary, list,
/// tuple). Where that is a tensor it is an input of the model like any other: torch.export makes one placeholder of
/// every tensor in the arguments.
std::vector<bool> taken_from_inputs(const GraphView& view);

}  // namespace tsquant::openvino

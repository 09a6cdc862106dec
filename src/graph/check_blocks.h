#pragma once

#include <torch/csrc/jit/ir/ir.h>

namespace tsquant {

/// Checks what Graph::lint of LibTorch checks of values and blocks: nodes in order, values defined once and before they
/// are read, uses that belong to the inputs behind them; not what single kinds of nodes must have. In linear time:
/// Graph::lint compares every block with all nodes of the graph and searches all uses of every input, which for a
/// scripted model with thousands of branches takes longer than the rewrites.
/// @throws std::runtime_error naming the value or the node
void check_blocks(const torch::jit::Graph& graph);

}  // namespace tsquant

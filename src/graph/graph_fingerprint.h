#pragma once

#include <torch/csrc/jit/ir/ir.h>

namespace tsquant {

/// A number that is another one after any edit of the graph: of nodes, what they read, their attributes and scopes, and
/// of names and types of values. Printing the graph twice would say the same, but costs several times as much. It holds
/// addresses, so it compares one graph before and after a step, never two graphs.
size_t graph_fingerprint(const torch::jit::Graph& graph);

}  // namespace tsquant

#pragma once

#include <torch/csrc/jit/ir/ir.h>

namespace tsquant {

/// A hash of the graph: its nodes, what they read, their attributes and scopes, and names and types of values. Printing
/// says the same, but costs several times as much. It holds addresses, so it compares one graph before and after a
/// step, never two graphs: a node that was made again counts as an edit, unless it stands at the address of the old
/// one.
size_t graph_fingerprint(const torch::jit::Graph& graph);

}  // namespace tsquant

#pragma once

#include <torch/csrc/jit/ir/ir.h>

namespace tsquant {

/// Decides `a is b` and `a is not b` where both are one value. Results of a branch that are one value whichever way it
/// goes become one value first, and equal constants one constant. nn.MultiheadAttention asks in this way whether it
/// attends to its own input.
/// @return whether the graph changed
bool fold_identity_tests(torch::jit::Graph& graph);

}  // namespace tsquant

#pragma once

#include <torch/csrc/jit/ir/ir.h>

namespace tsquant {

/// Removes `if condition: raise ...` where the condition is about the shapes of intermediate results, as LibTorch's
/// layers check them (`nn.LSTMCell`: "Expected input to be 1-D or 2-D"). Checks of the model's inputs stay, because
/// they are part of what the model does. Returns whether the graph changed.
bool remove_internal_checks(torch::jit::Graph& graph);

}  // namespace tsquant

#pragma once

#include <torch/csrc/jit/ir/ir.h>

namespace tsquant {

/// After forks were replaced by calls: a value of type Future[T] is a T, also inside lists and tuples, and waiting for
/// it gives itself. @return null, or the first operator that makes futures in another way; then nothing was changed
const torch::jit::Node* erase_futures(torch::jit::Graph& graph);

}  // namespace tsquant

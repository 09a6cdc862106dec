#pragma once

#include <torch/csrc/jit/ir/ir.h>

#include <memory>

namespace tsquant {

/// Whether an operator of the block, or of a block inside it, writes into an argument. Without one, alias analysis has
/// nothing to tell; it is the dearest part of many of LibTorch's passes on a large graph.
bool has_mutation(const torch::jit::Block* block);

/// Removes what nothing reads, as LibTorch's pass does with alias analysis: also what writes into tensors that nothing
/// reads afterwards.
void remove_dead_code(const std::shared_ptr<torch::jit::Graph>& graph);

/// Removes what nothing reads and what writes nothing, as LibTorch's pass does without alias analysis.
void remove_unread(torch::jit::Block* block);

}  // namespace tsquant

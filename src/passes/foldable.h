#pragma once

#include <torch/csrc/jit/ir/ir.h>

namespace tsquant {

// LibTorch's constant propagation, peephole pass and removal of dead code analyse the aliases of all values, the
// peephole pass three times over, before they look for work. On a large model that is most of the time of all passes,
// and a line of layers has no work for them. These say cheaply what there is to do; where they are in doubt, they say
// yes.

/// Whether constant propagation may change the block: control flow that a constant decides or that has results, or an
/// operator that reads nothing but constants.
bool may_propagate(const torch::jit::Block* block);

/// Whether the peephole pass may: operators of a kind that it replaces, or of one that is not known here.
bool may_simplify(const torch::jit::Block* block);

/// Whether constant propagation has to know what is written to: values that can be changed in place, lists of constants
/// apart, are computed from constants alone.
bool needs_alias_analysis(const torch::jit::Block* block);

/// Replaces every `prim::If` with a constant condition, inner ones first, by the branch that is taken. Returns whether
/// the block changed.
bool inline_constant_branches(torch::jit::Block* block);

/// Makes constants of the lists of constants, as LibTorch's constant propagation does, unless the graph changes lists
/// in place. Returns whether the graph changed.
bool fold_constant_lists(torch::jit::Graph& graph);

}  // namespace tsquant

#pragma once

#include <torch/csrc/jit/ir/ir.h>

namespace tsquant {

/// What a run does with the memory of weights that lie in a mapped file (`map_file`).
enum class WeightPages {
  kKeep,      ///< they stay in memory: the next run finds them there
  kGiveBack,  ///< each weight leaves memory when an operator has read it, and is read again when it is needed
};

/// Inserts, after each reader of a mapped weight in the graph, inner blocks included, an operator that gives its pages
/// back; readers that make views of it hand it on to theirs. For graphs that are run and thrown away.
/// @param weight a value of the graph that is a mapped tensor in every run, and that nothing writes into
void give_pages_back_after_reads(torch::jit::Value* weight);

}  // namespace tsquant

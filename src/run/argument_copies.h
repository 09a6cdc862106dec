#pragma once

#include <torch/csrc/jit/ir/ir.h>

#include "tsquant/sample.h"

namespace tsquant {

/// Whether a graph may write into its arguments, or into what they hold or are views of: `x.sub_(mean)`. Where it is in
/// doubt, the answer is yes; what attributes hold does not count. Calls of methods are not looked into.
bool may_write_to_arguments(const torch::jit::Graph& graph);

/// The same values in memory of their own, for a model that writes into its arguments.
Sample deep_copy(const Sample& sample);

}  // namespace tsquant

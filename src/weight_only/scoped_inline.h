#pragma once

#include <torch/csrc/jit/ir/ir.h>

#include <string>

namespace tsquant {

/// Makes a forward one graph, as expand_calls does, in which the scope of each node is the dotted name of the module
/// that it was called in.
/// @throws Error kUnsupportedModel for recursive methods
void inline_with_scopes(torch::jit::Graph& graph);

/// The dotted name again; "" for the root and for nodes without a scope.
std::string module_name_of(const torch::jit::Node* node);

}  // namespace tsquant

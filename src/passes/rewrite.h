#pragma once

#include <torch/csrc/jit/ir/ir.h>

#include <string>
#include <vector>

namespace tsquant {

/// Puts `kind(inputs)` in the place of `old`, which has one result: names, source position and users move over.
torch::jit::Node* replace_node(torch::jit::Node* old, const std::string& kind,
                               const std::vector<torch::jit::Value*>& inputs);

/// The replacement computes another function than the user wrote (`addmm` -> `linear`): gives it the function name
/// `type` and an ordinal that no other operator of the graph has.
void rename_function(torch::jit::Graph& graph, torch::jit::Node* node, const std::string& type);

}  // namespace tsquant

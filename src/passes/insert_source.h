#pragma once

#include <torch/csrc/jit/ir/ir.h>

#include <functional>
#include <map>
#include <string>
#include <vector>

namespace tsquant {

/// Puts a function that is written as TorchScript source in front of a node; returns the function's results.
/// @param source    TorchScript, compiled by LibTorch; holds `function` and the functions that it calls
/// @param arguments one value for each argument of the function
/// @param known     arguments, by position, whose value is known: branches that depend on them vanish
/// @param give_names is called with all nodes that were added
std::vector<torch::jit::Value*> insert_source(
    torch::jit::Node* before, const std::string& source, const std::string& function,
    const std::vector<torch::jit::Value*>& arguments, const std::map<size_t, c10::IValue>& known,
    const std::function<void(const std::vector<torch::jit::Node*>&)>& give_names);

/// The same in the place of an operator that has as many results as the function.
void replace_with_source(torch::jit::Node* node, const std::string& source, const std::string& function,
                         const std::vector<torch::jit::Value*>& arguments, const std::map<size_t, c10::IValue>& known,
                         const std::function<void(const std::vector<torch::jit::Node*>&)>& give_names);

}  // namespace tsquant

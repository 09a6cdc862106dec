#pragma once

#include <torch/csrc/jit/ir/ir.h>

#include <string>
#include <vector>

namespace tsquant {

/// A call of `forward` of a submodule of the root: %o = prim::GetAttr[name="attribute"](%self);
/// %y = prim::CallMethod[name="forward"](%o, ...).
struct ModuleCall {
  torch::jit::Node* node;
  std::string attribute;
};

/// Such a call with one tensor as its result, at the graph's insert point. @return that result
torch::jit::Value* insert_module_call(torch::jit::Graph& graph, const std::string& attribute,
                                      const std::vector<torch::jit::Value*>& arguments);

/// The calls in all blocks whose attribute begins with `prefix`.
std::vector<ModuleCall> module_calls(torch::jit::Graph& graph, const std::string& prefix);

/// Removes a call that nothing reads, and what read its module.
void remove_module_call(torch::jit::Node* call);

}  // namespace tsquant

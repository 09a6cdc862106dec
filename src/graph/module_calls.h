#pragma once

#include <torch/csrc/jit/api/module.h>
#include <torch/csrc/jit/ir/ir.h>

#include <set>
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

/// Submodules of the root with this prefix are kept apart: their calls are not inlined, no rewrite looks into them, and
/// their methods and tensors stay. They are what a caller made of modules of his own.
constexpr const char* kOpaquePrefix = "tsquant_custom_module_";

/// Whether a node calls such a submodule. The function of the operator is then `kOpaqueFunction`.
bool is_opaque_call(const torch::jit::Node* node);
constexpr const char* kOpaqueFunction = "custom_module";

/// Puts another module, with a class of its own, in the place of a submodule of the root that is kept apart.
void replace_opaque(torch::jit::Module& root, const std::string& attribute, const torch::jit::Module& module);

/// These submodules of a root and all modules in them.
std::set<const c10::ivalue::Object*> opaque_objects(const torch::jit::Module& root);

/// Removes a call that nothing reads, and what read its module.
void remove_module_call(torch::jit::Node* call);

}  // namespace tsquant

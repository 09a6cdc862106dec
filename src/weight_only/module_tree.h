#pragma once

#include <torch/csrc/jit/api/module.h>

#include <string>
#include <utility>
#include <vector>

namespace tsquant {

/// "Linear" for a module of type __torch__.torch.nn.modules.linear.___torch_mangle_3.Linear.
std::string class_name(const torch::jit::Module& module);

/// The child of this name; none for other attributes, too.
c10::optional<torch::jit::Module> child_of(const torch::jit::Module& module, const std::string& name);

/// All modules with their dotted names, the root "" first, depth first in the order of registration; a module that
/// several parents hold counts once (torch.nn.Module.named_modules).
std::vector<std::pair<std::string, torch::jit::Module>> all_modules(const torch::jit::Module& root);

}  // namespace tsquant

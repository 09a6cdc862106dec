#pragma once

#include <torch/csrc/jit/api/module.h>

#include <string>
#include <vector>

namespace tsquant {

/// "a.b.c" -> {"a", "b", "c"}; no steps for "".
std::vector<std::string> steps_of(const std::string& key);

/// The child of a module, or of its wrapped one; the module itself when there is none and `strict` allows that.
/// @param key the whole name, for messages
/// @throws Error kInvalidArgument
torch::jit::Module step_into(const torch::jit::Module& module, const std::string& name, bool see_wrappers, bool strict,
                             const std::string& key);

/// @throws Error kInvalidArgument naming the step and the children that there are
[[noreturn]] void refuse_step(const torch::jit::Module& module, const std::string& name, const std::string& key);

}  // namespace tsquant

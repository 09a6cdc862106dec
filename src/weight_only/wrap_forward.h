#pragma once

#include <torch/csrc/jit/api/module.h>

#include <functional>

namespace tsquant {

/// What a module does instead of its forward.
/// @param stack in: self and the arguments; out: the result
/// @param forward the method that was replaced, which works on such a stack
using ForwardCall = std::function<void(torch::jit::Stack& stack, torch::jit::Function& forward)>;

/// copy_module, which knows compiled methods only. @throws Error kInvalidArgument when a forward of the module is C++
torch::jit::Module copy_compiled(const torch::jit::Module& module);

/// Puts C++ in the place of a module's forward, and of the methods forward1, forward2, ... that traces make for further
/// calls of one module. Other modules of the same type are not concerned.
/// @param module part of a copy_compiled that has not run, because LibTorch inlines forward into the caller then
/// @param call LibTorch keeps it for good, so it should not own much
void wrap_forward(const torch::jit::Module& module, const ForwardCall& call);

}  // namespace tsquant

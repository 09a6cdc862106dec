#pragma once

#include <torch/csrc/jit/api/module.h>

namespace tsquant {

/// A module of new types with new methods, properties and hooks, which shares the tensors with `module`. Submodules
/// that several parents hold stay shared, and nothing of `module` is touched, the graphs inside its prim::fork neither.
///
/// An attribute that is declared as a module interface gets the type of the module that it holds, so that calls of it
/// are calls of known methods. Objects of one type that hold different modules get different types. Only an attribute
/// that some method assigns stays an interface.
torch::jit::Module copy_module(const torch::jit::Module& module);

/// The same for a file: the classes have the names that they were written with, without the numbers that copies give
/// them, so that the archive does not tell how often the module was copied. It lives no longer than `module`.
torch::jit::Module copy_for_file(const torch::jit::Module& module);

/// Gives `forward` another body with the same arguments. Types of submodules in `body` may be those of another copy.
void replace_forward(const torch::jit::Module& module, torch::jit::Graph& body);

}  // namespace tsquant

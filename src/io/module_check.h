#pragma once

#include <torch/csrc/jit/api/module.h>

#include <string>

namespace tsquant {

/// What in a loaded module does not fit its own types: LibTorch fills the attributes of objects with whatever a file
/// holds, and makes sparse tensors with whatever indices, quantized ones with whatever zero points. "" when nothing is
/// wrong.
std::string module_fault(const torch::jit::Module& module);

}  // namespace tsquant

#pragma once

#include <torch/csrc/jit/ir/ir.h>

#include <string>
#include <utility>
#include <vector>

#include "tsquant/model.h"

namespace tsquant {

/// One place where an operator reads a parameter.
using ParameterUse = std::pair<torch::jit::Node*, size_t>;

/// Lets all `uses` (which read the same parameter, perhaps through several prim::GetAttr) read `tensor`. It is stored
/// once: under the parameter's state-dict name when nothing else reads that, otherwise as a constant.
void replace_parameter(Model& model, const std::vector<ParameterUse>& uses, const at::Tensor& tensor);

/// One node `kind` that reads the parameter once for all `uses`; their inputs become its result.
torch::jit::Node* insert_reader(Model& model, const std::vector<ParameterUse>& uses, const std::string& kind);

}  // namespace tsquant

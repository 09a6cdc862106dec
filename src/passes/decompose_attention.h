#pragma once

#include <torch/csrc/jit/ir/ir.h>

#include <string>

#include "tsquant/model.h"

namespace tsquant {

/// Why decompose_attention leaves this operator whole; "" for operators that it rewrites and for all others.
std::string attention_obstacle(const Model& model, const torch::jit::Node* node);

}  // namespace tsquant

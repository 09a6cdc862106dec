#pragma once

#include <vector>

#include "lowering/engines/lowering_context.h"

namespace tsquant {

using Values = std::vector<torch::jit::Value*>;

/// A row without weights.
EngineRow function(const char* op, const char* kernel, EngineRow::Arguments arguments,
                   ResultScale result = ResultScale::kChosen);

/// Appends scale and zero point, as constants before `node`.
void append_params(LoweringContext& context, torch::jit::Node* node, const CodeParams& params, Values& inputs);

/// ([parts], dim, scale, zero_point)
Values concatenation(LoweringContext& context, torch::jit::Node* node, Values codes, const FusedOutput& output);

/// The arguments of the float operator, with codes for its first operand.
Values same_arguments(LoweringContext& context, torch::jit::Node* node, Values codes, const FusedOutput& output);

/// None for an undefined tensor.
c10::IValue optional_tensor(const at::Tensor& t);

}  // namespace tsquant

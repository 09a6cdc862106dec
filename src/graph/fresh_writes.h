#pragma once

#include <torch/csrc/jit/ir/ir.h>

namespace tsquant {

/// Dropout may return its argument, which its schema does not tell.
bool is_dropout(const torch::jit::Node* node);

/// Whether an operator returns the argument that it writes into: `x.mul_(0.9)` is x.
bool returns_its_argument(const torch::jit::Node* node);

/// Whether the result of an operator is new memory: no alias of an argument, nor the content of a container.
bool makes_new_tensor(const torch::jit::Node* node);

/// Whether all that an operator writes into are tensors that operators of the graph have made, so that neither inputs
/// nor attributes change. This needs no alias analysis, which looks at the whole graph; where it is in doubt, the
/// answer is no. Operators that write nothing: yes.
bool writes_only_new_tensors(const torch::jit::Node* node);

/// Whether an operator may write into an argument of the graph: into something that is neither new nor an attribute.
bool may_write_to_arguments(const torch::jit::Node* node);

}  // namespace tsquant

#pragma once

#include "lowering/engines/engine.h"
#include "tsquant/model.h"

namespace tsquant {

/// Fills the pooling fields of `facts` from the arguments of a max_pool or avg_pool; other operators leave them alone.
/// Arguments that are not constant count as the worst case.
void read_pooling(const Model& model, const torch::jit::Node* node, OpFacts& facts);

}  // namespace tsquant

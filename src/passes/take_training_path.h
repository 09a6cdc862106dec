#pragma once

#include "tsquant/model.h"

namespace tsquant {

/// Whether the model asks if gradients are on: then what it computes depends on it.
bool asks_for_gradients(const Model& model);

// %g = aten::is_grad_enabled()   ->   %g = prim::Constant[value=1]()
//
// Models that are trained compute one thing, with gradients and without. LibTorch's attention and encoder layers take a
// fused operator when no gradient is wanted, which reads parameters that the rewrites of the other path have divided:
// what was trained would not be what is evaluated and converted. Gradients are on, parameters want them, and a reason
// against the fused operator that is never empty is one.
bool take_training_path(Model& model);

}  // namespace tsquant

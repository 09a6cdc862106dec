#pragma once

#include "tsquant/observer_module.h"

namespace tsquant {

/// Lets an observer see what a module of the type kSampleExtrema saw: for each batch a tensor with its extrema.
void observe_samples(const torch::jit::Module& module, Observer& observer);

}  // namespace tsquant

#pragma once

#include "passes/rewrite_runner.h"

namespace tsquant {

/// What is asked of every file: names for comparisons, constants that LibTorch writes right, no tensors that nothing
/// reads. The last rewrites of a model.
void finish_rewrites(RewriteRunner& runner);

}  // namespace tsquant

#pragma once

#include "passes/rewrite_runner.h"
#include "tsquant/quantizer.h"

namespace tsquant {

/// Runs what a quantizer needs before it annotates: the rewrites that it asks for by name, then its own.
/// @throws Error kInvalidArgument for a name that is no such rewrite
void transform_model(RewriteRunner& runner, Quantizer& quantizer);

}  // namespace tsquant

#pragma once

#include "tsquant/prepare_pt2e.h"

namespace tsquant {

/// The first step of all two-step flows.
torch::jit::Module prepare_for_observers(const Model& model, Quantizer& quantizer, const Sample& example_inputs,
                                         const PreparePt2eOptions& options, bool is_qat);

}  // namespace tsquant

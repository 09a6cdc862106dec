#pragma once

#include <torch/csrc/jit/api/module.h>

#include "tsquant/sample.h"

namespace tsquant {

/// An input as forward_wrapper takes it.
Sample call_of_input(const torch::jit::Module& model, const c10::IValue& input);
/// An item of a data set as model_forward takes it.
Sample call_of_item(const torch::jit::Module& model, const Sample& item);

/// forward without gradients. @throws Error kDataset when the model rejects the sample; Errors of its own pass
c10::IValue call_model(torch::jit::Module& model, const Sample& sample);

}  // namespace tsquant

#pragma once

#include <torch/script.h>

#include <string>
#include <vector>

#include "unit/prepare/python_records.h"

namespace tsquant::testing {

/// One step of training: the output, and by the names of the module's parameters and of its fake quantizes what these
/// had in it. Outputs of fake quantizes have the name and the number of the call, "activation_post_process_0#0".
struct TrainingStep {
  at::Tensor out;
  double loss = 0;
  NamedTensors gradients, fake_quantized, scales, zero_points;
};

/// Gradient descent on the loss of torch.ao's references (`tests/e2e/python_qat.py` has the same), a step per batch.
std::vector<TrainingStep> train_steps(torch::jit::Module& module, const std::vector<at::Tensor>& batches);

}  // namespace tsquant::testing

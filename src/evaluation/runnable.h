#pragma once

#include <torch/csrc/jit/api/module.h>

#include <string>

#include "tsquant/dataset.h"

namespace tsquant {

/// A module loaded for measuring, with the quantized engine that its file asks for.
struct Runnable {
  std::string path;
  torch::jit::Module module;
  std::string engine;                ///< recorded in the archive; empty for float models and forms that need none
  bool writes_to_arguments = false;  ///< samples are copied for it: each run finds them as they were

  /// Runs one sample without gradients, under the recorded engine.
  /// @throws Error kDataset when the module rejects the sample
  c10::IValue run(const Sample& sample);
};

/// @throws Error kModelLoad, kBackendUnavailable
Runnable load_runnable(const std::string& path);

/// The first tensor of a result (of a tuple, list or dict: of its first element). @throws Error kUnsupportedModel
at::Tensor first_tensor(const c10::IValue& value);

/// All tensors of a result, in order.
std::vector<at::Tensor> all_tensors(const c10::IValue& value);

/// Whether any method of the module calls a quantized operator; such modules must not be frozen and re-optimised.
bool has_quantized_operators(const torch::jit::Module& module);

}  // namespace tsquant

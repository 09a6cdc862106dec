#pragma once

#include <torch/script.h>

#include <string>

#include "inc_golden.h"

namespace tsquant::testing {

/// One of Neural Compressor's test models, traced in Python: "tiny_transformer", "convnet" or "mixed".
inline torch::jit::Module traced(const std::string& name) {
  return torch::jit::load(carried_goldens() + "/models/" + name + ".pt");
}

inline nlohmann::json expected_of(const std::string& name) {
  return read_json(carried_goldens() + "/models/expected.json").at(name);
}

inline at::Tensor model_array(const std::string& name) {
  static GoldenArrays arrays(carried_goldens() + "/models");
  return arrays.get("arrays.npz", name);
}

}  // namespace tsquant::testing

#pragma once

#include <torch/csrc/jit/api/module.h>

#include <string>
#include <utility>
#include <vector>

namespace tsquant::testing {

using Named = std::vector<std::pair<std::string, at::Tensor>>;
using Children = std::vector<std::pair<std::string, torch::jit::Module>>;

/// A module of a class, "torch.nn.modules.linear.Linear" or "Sub", with one `forward` in TorchScript.
torch::jit::Module of_class(const std::string& type, const std::string& source, const Named& params = {},
                            const Children& children = {});

/// Layers of torch.nn as TorchScript has them.
torch::jit::Module linear_layer(int64_t in, int64_t out);
torch::jit::Module conv1d_layer(int64_t in, int64_t out);
torch::jit::Module conv2d_layer(int64_t in, int64_t out);
torch::jit::Module relu_layer();

}  // namespace tsquant::testing

#pragma once

#include <torch/script.h>

#include <string>
#include <utility>
#include <vector>

namespace tsquant::testing {

/// A module with one `forward`, compiled by LibTorch from TorchScript source.
/// @param params    registered as parameters on the root module, in order
/// @param submodules registered as children
torch::jit::Module define(const std::string& source, const std::vector<std::pair<std::string, at::Tensor>>& params = {},
                          const std::vector<std::pair<std::string, torch::jit::Module>>& submodules = {});

/// The kit folder (`TSQUANT_KIT`, default ../shared/kit beside the repository), or "" when it is absent.
std::string kit_dir();
/// A small file that the tests carry.
std::string data_file(const std::string& name);
/// A fresh empty folder for this test.
std::string temp_dir();

}  // namespace tsquant::testing

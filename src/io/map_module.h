#pragma once

#include <torch/csrc/jit/api/module.h>

#include <cstdint>
#include <map>
#include <string>

namespace tsquant {

/// Loads a module to the CPU as torch::jit::load does, except that the values of some tensors stay in the file
/// (file_mapping.h). LibTorch 1.13 has no such loader: it is given memory that it never touches in place of these
/// values, and the storages that it makes are turned to the file afterwards. So nothing in the archive may compute with
/// them while it is loaded: no `__setstate__`, no quantized and no sparse tensors.
/// @param records where the values lie: offset in the file -> bytes
/// @return nullopt when not all of these storages were found again; then the module must be loaded in another way
/// @throws what LibTorch throws
c10::optional<torch::jit::Module> load_mapped_module(const std::string& path,
                                                     const std::map<uint64_t, uint64_t>& records);

}  // namespace tsquant

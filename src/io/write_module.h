#pragma once

#include <torch/csrc/jit/api/module.h>

#include <string>
#include <unordered_map>

#include "io/output_file.h"

namespace tsquant {

/// Writes the archive of a module as `Module::save` does, piece by piece, so that it is not held in memory besides. Its
/// records do not carry the file's name: equal modules give equal bytes.
/// @param extra_files stored under extra/
/// @throws Error kIo (a full disk); kInternal when LibTorch cannot write the graph
void write_module(OutputFile& file, const torch::jit::Module& module,
                  const std::unordered_map<std::string, std::string>& extra_files = {});

/// The same for a whole file. @param what the content in the words of messages @throws Error as above
void save_module(const std::string& path, const std::string& what, const torch::jit::Module& module,
                 const std::unordered_map<std::string, std::string>& extra_files = {});

}  // namespace tsquant

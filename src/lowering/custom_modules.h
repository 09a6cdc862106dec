#pragma once

#include <torch/csrc/jit/api/module.h>

#include <cstdint>
#include <string>
#include <vector>

#include "tsquant/model.h"

namespace tsquant {

/// What takes the place of a submodule that is kept apart (graph/module_calls.h).
struct ConvertedModule {
  std::string attribute;  ///< of the root
  torch::jit::Module module;
  std::vector<int64_t> inputs;  ///< arguments of its forward that are quantized tensors, counted from 0
  bool output = false;          ///< whether its result is one
};

/// Puts converted modules into a model in the reference form and makes codes go in and come out, as torch.ao's
/// convert_custom_module does: an argument is the quantized tensor instead of its dequantized values, and what the
/// module returns takes the place of the quantizer after it.
/// @param keep_quantizers the quantizer stays behind the dequantized result, so that an engine, which has to know the
///        parameters of what it reads, can compute what follows; codes with the same parameters stay as they are
/// @throws Error kInvalidArgument when nothing quantizes such an argument
bool connect_custom_modules(Model& model, const std::vector<ConvertedModule>& modules, bool keep_quantizers);

}  // namespace tsquant

#pragma once

#include <map>
#include <string>
#include <vector>

#include "flows/prepare/prepared_record.h"
#include "lowering/custom_modules.h"
#include "tsquant/fx/custom_config.h"
#include "tsquant/fx/qconfig_mapping.h"
#include "tsquant/model.h"

namespace tsquant::fx {

/// Puts observed modules in the place of those whose class and qconfig are in the custom configuration. Modules without
/// a qconfig, and those inside of standalone modules, stay.
/// @throws Error kInvalidArgument for a class that is there for other types of quantization only, and for a function
///         that makes something that cannot be called instead; kUnsupportedModel for modules that return something else
///         than one tensor, and as Model::capture_with_calls
std::vector<CustomModule> observe_custom_modules(Model& model, const QConfigMapping& mapping,
                                                 const PrepareCustomConfig& custom);

/// What takes the place of the observed modules of `module`.
/// @throws Error kInvalidArgument as observe_custom_modules
std::vector<ConvertedModule> quantize_custom_modules(const torch::jit::Module& module, const PreparedRecord& record,
                                                     const std::map<std::string, torch::jit::Module>& observers,
                                                     const ConvertCustomConfig& custom);

}  // namespace tsquant::fx

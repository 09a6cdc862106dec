#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "flows/prepare/prepared_record.h"
#include "lowering/custom_modules.h"
#include "tsquant/fx/custom_config.h"
#include "tsquant/fx/qconfig_mapping.h"
#include "tsquant/model.h"
#include "tsquant/sample.h"

namespace tsquant::fx {

/// Prepares a submodule as a model of its own. @param example one call of it
using PrepareStandalone = std::function<torch::jit::Module(const Model& model, const QConfigMapping& mapping,
                                                           const Sample& example, const StandaloneConfig& config)>;

/// Puts observed modules in the place of those whose class and qconfig are in the custom configuration, and prepared
/// ones in the place of standalone modules with a configuration of their own. Modules without a qconfig stay, and those
/// inside of standalone modules are not the model's.
/// @param example one call of the model
/// @throws Error kInvalidArgument for a class that is there for other types of quantization only, and for a function
///         that makes something that cannot be called instead; kUnsupportedModel for modules that return something else
///         than one tensor, and as Model::capture_with_calls
std::vector<CustomModule> observe_custom_modules(Model& model, const QConfigMapping& mapping,
                                                 const PrepareCustomConfig& custom, const Sample& example,
                                                 const PrepareStandalone& prepare);

/// Converts what `prepare` made. @param path of the submodule
using ConvertStandalone =
    std::function<torch::jit::Module(const torch::jit::Module& prepared, const std::string& path)>;

/// What takes the place of the observed modules of `module`.
/// @throws Error kInvalidArgument as observe_custom_modules
std::vector<ConvertedModule> quantize_custom_modules(const torch::jit::Module& module, const PreparedRecord& record,
                                                     const std::map<std::string, torch::jit::Module>& observers,
                                                     const ConvertCustomConfig& custom,
                                                     const ConvertStandalone& convert);

}  // namespace tsquant::fx

#pragma once

#include <functional>
#include <map>
#include <set>
#include <string>

#include "flows/prepare/prepared_record.h"
#include "lowering/custom_modules.h"
#include "lowering/quantized_io.h"
#include "tsquant/prepare_pt2e.h"

namespace tsquant {

/// What else the first step of a two-step flow is told.
struct PrepareExtras {
  QuantizedIo io;
  std::vector<CustomModule> custom_modules;  ///< that stand in the model
};

/// The first step of all two-step flows.
torch::jit::Module prepare_for_observers(const Model& model, Quantizer& quantizer, const Sample& example_inputs,
                                         const PreparePt2eOptions& options, bool is_qat,
                                         const PrepareExtras& extras = {});

/// What a second step leaves in float, given the graph that was prepared and the options in its record: names of
/// operators.
using FloatOperators =
    std::function<std::set<std::string>(const GraphView& view, const std::map<std::string, std::string>& options)>;

/// Makes what takes the place of the observed custom modules of `module`, given the observers by their names.
using QuantizeCustomModules =
    std::function<std::vector<ConvertedModule>(const torch::jit::Module& module, const PreparedRecord& record,
                                               const std::map<std::string, torch::jit::Module>& observers)>;

/// The second step of all two-step flows.
QuantizedModel convert_observed(const torch::jit::Module& prepared, const ConvertPt2eOptions& options,
                                const FloatOperators& float_operators = nullptr,
                                const QuantizeCustomModules& quantize_custom_modules = nullptr);

}  // namespace tsquant

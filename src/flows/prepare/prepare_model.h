#pragma once

#include <functional>
#include <map>
#include <set>
#include <string>

#include "lowering/quantized_io.h"
#include "tsquant/prepare_pt2e.h"

namespace tsquant {

/// The first step of all two-step flows.
torch::jit::Module prepare_for_observers(const Model& model, Quantizer& quantizer, const Sample& example_inputs,
                                         const PreparePt2eOptions& options, bool is_qat, const QuantizedIo& io = {});

/// What a second step leaves in float, given the graph that was prepared and the options in its record: names of
/// operators.
using FloatOperators =
    std::function<std::set<std::string>(const GraphView& view, const std::map<std::string, std::string>& options)>;

/// The second step of all two-step flows.
QuantizedModel convert_observed(const torch::jit::Module& prepared, const ConvertPt2eOptions& options,
                                const FloatOperators& float_operators = nullptr);

}  // namespace tsquant

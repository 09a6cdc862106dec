#pragma once

#include <ATen/core/Tensor.h>

#include <map>
#include <set>
#include <string>

#include "tsquant/annotation.h"
#include "tsquant/graph_view.h"

namespace tsquant {

/// Biases by the stable name of their operator.
using Biases = std::map<std::string, at::Tensor>;

/// The biases of operators with a quantized weight.
Biases read_biases(const Model& model, const GraphView& view, const Annotations& annotations);

/// Gives operators back the biases that they had; one that has a bias now and had none gets zeros. Returns whether
/// something changed. Views of the graph built before are no longer valid.
bool restore_biases(Model& model, const Biases& before, const std::set<std::string>& operators);

}  // namespace tsquant

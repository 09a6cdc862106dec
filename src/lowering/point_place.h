#pragma once

#include <torch/csrc/jit/ir/ir.h>

#include <vector>

#include "graph/mutation.h"
#include "tsquant/annotation.h"
#include "tsquant/graph_view.h"

namespace tsquant {

/// Where a quantizer stands in the graph: before some uses of a value, or after the value for all consumers.
struct PointPlace {
  torch::jit::Value* value = nullptr;  ///< null when the node produces none
  /// Empty: after the value. Otherwise the exact uses; those of a parameter may read it through different values.
  std::vector<torch::jit::Use> uses;
};

/// @throws Error kInvalidArgument when the node or its argument does not exist
PointPlace place_in_graph(const GraphView& view, const QuantizationPoint& point);

/// Why no quantizer may stand on a tensor, as a refusal without a node; none when one may.
c10::optional<Refusal> fault_of(const Model& model, const GraphView& view, const MutationAnalysis& mutation,
                                torch::jit::Value* value);

/// The operators that wanted the tensor quantized lose by a fault, not the one that it stands behind.
void refuse_point(const QuantizationPoint& point, const Refusal& fault, std::vector<Refusal>& refusals);

/// The node before which something stands that takes `value` when it is produced.
torch::jit::Node* node_after(const torch::jit::Value* value);

/// The node before which something stands that serves some uses of `value`: the first of the users when they share a
/// block, else right after the value, which dominates them all.
torch::jit::Node* node_before(const torch::jit::Value* value, const std::vector<torch::jit::Use>& uses);

}  // namespace tsquant

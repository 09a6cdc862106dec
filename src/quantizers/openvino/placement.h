#pragma once

#include <string>
#include <vector>

#include "quantizers/openvino/setup.h"

namespace tsquant::openvino {

/// What became of an operator, when it is not simply quantized.
enum class Fate {
  kNone,              ///< nothing to say: quantized, or it only moves values
  kIgnored,           ///< by the user
  kIgnoredPattern,    ///< part of an ignored pattern
  kIgnoredModelType,  ///< the model type keeps this kind of operator in float
  kConstant,          ///< computed from constants alone
  kUnknown,           ///< not in the operator table
  kNotQuantizable,    ///< the device computes it in float
  kConstantOperand,   ///< element-wise with a constant: runs in the operator before it
  kNoInput,           ///< asked for quantizers, got none
};

/// The decisions for one graph.
struct Placement {
  Setup setup;
  std::vector<Fate> fates;       ///< by node
  std::vector<bool> half_range;  ///< by node: its weight uses half of the levels
  std::vector<IdList> fused;     ///< nodes that the device runs as one operator, in topological order
};

/// Runs the whole algorithm: inference graph, ignored patterns, fusing, propagation, setup, model type and device
/// passes, overflow fix.
/// @param ignored by node: the user's ignored scope
/// @throws Error kInvalidArgument when the overrides leave no candidate
Placement place_quantizers(const PlacementGraph& graph, const OpenVINOQuantizerOptions& options,
                           const std::vector<bool>& ignored);

/// TRANSFORMER: inputs of matrix products without a constant operand become symmetric.
void apply_transformer_pass(Setup& setup, const PlacementGraph& graph);

/// CPU_SPR: of the two quantizers in front of an addition one is dropped, because the device adds into the result of
/// the convolution or matrix product before it.
void apply_spr_pass(Setup& setup, const InferenceGraph& graph);

/// Nodes whose weights use half of the levels, so that 16-bit sums of products cannot overflow.
std::vector<bool> half_range_nodes(const PlacementGraph& graph, const Setup& setup, OverflowFix fix);

}  // namespace tsquant::openvino

#pragma once

#include <string>

#include "graph/weighted_layer.h"
#include "lowering/engines/lowering_context.h"

namespace tsquant {

/// A convolution or linear layer of the reference form, read from the graph.
struct WeightedOp {
  torch::jit::Node* node = nullptr;
  torch::jit::Value* codes = nullptr;  ///< activation
  bool is_dynamic = false;             ///< its scale is known at run time only
  torch::jit::Node* reader = nullptr;  ///< the node that reads the weight parameter
  at::Tensor weight;                   ///< qint8, zero point 0, one scale or one per output channel
  at::Tensor bias;                     ///< float or undefined
  KernelGeometry geometry;

  Work work(const LoweringContext& context) const;
};

/// Reads the node. On failure `reason` says why it cannot be lowered; an empty reason means that it is not quantized.
c10::optional<WeightedOp> read_weighted_op(LoweringContext& context, torch::jit::Node* node, std::string& reason);

/// The quantized tensor behind a weight operand, folded or not, and the node that reads the parameter; undefined for
/// other operands.
at::Tensor quantized_weight(const Model& model, const torch::jit::Value* value, torch::jit::Node*& reader);

/// Packed weights of one operator.
struct PackedOp {
  c10::IValue params;
};

/// Removes the float operator after it was replaced. Its weight and bias give up their memory when nothing else reads
/// them: the packed object holds them now.
void remove_weighted_op(LoweringContext& context, const WeightedOp& op);

}  // namespace tsquant

#pragma once

#include <limits>
#include <string>
#include <vector>

#include "lowering/backends/lowering_state.h"

namespace tsquant {

/// A convolution or linear layer of the reference form, read from the graph.
struct WeightedOp {
  torch::jit::Node* node = nullptr;
  torch::jit::Value* codes = nullptr;  ///< activation
  torch::jit::Node* reader = nullptr;  ///< the node that reads the weight parameter
  at::Tensor weight;                   ///< qint8, zero point 0, one scale or one per output channel
  at::Tensor bias;                     ///< float or undefined
  bool linear = false, transposed = false;
  std::vector<int64_t> stride, padding, dilation, output_padding;
  int64_t groups = 1;

  int64_t spatial_dims() const { return linear ? 0 : weight.dim() - 2; }
  int64_t in_channels() const { return linear || !transposed ? weight.size(1) * groups : weight.size(0); }
};

/// Convolutions, transposed convolutions and linear layers.
const std::vector<std::string>& weighted_kinds();

/// Reads the node. On failure `reason` says why it cannot be lowered; an empty reason means that it is not quantized.
c10::optional<WeightedOp> read_weighted_op(Lowering& lowering, torch::jit::Node* node, std::string& reason);

/// Packed weights of one operator and the operators that use them.
struct PackedOp {
  c10::IValue params;
  std::string codes_kernel;  ///< (codes, params, scale, zero_point) -> codes
  std::string float_kernel;  ///< (codes, params) -> float; empty: the engine has none
  std::string add_kernel;    ///< (codes, other codes, params, scale, zero_point) -> codes; empty: the engine has none
  bool clamps = false;       ///< the fused activation is part of the kernel
};

/// Packs the weights for the engine. On failure `reason` says why.
c10::optional<PackedOp> pack_own(const WeightedOp& op, const FusedOutput& output);
c10::optional<PackedOp> pack_libtorch(const Lowering& lowering, const WeightedOp& op, const FusedOutput& output,
                                      std::string& reason);

/// Removes the float operator after it was replaced. Its weight and bias give up their memory when nothing else reads
/// them: the packed object holds them now.
void remove_weighted_op(Lowering& lowering, const WeightedOp& op);

}  // namespace tsquant

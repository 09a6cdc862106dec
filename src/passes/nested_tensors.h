#pragma once

#include <torch/csrc/jit/ir/ir.h>

#include <unordered_set>

namespace tsquant {

/// Finds values that can hold nested tensors (rows of different length, nn.TransformerEncoder with a padding mask):
/// those that operators make that create such tensors, and everything computed from them up to
/// `aten::to_padded_tensor`. Inputs of the model count as ordinary tensors. Valid until the graph is edited.
class NestedTensors {
 public:
  explicit NestedTensors(torch::jit::Graph& graph);
  bool may_hold(const torch::jit::Value* value) const { return values_.count(value) != 0; }

 private:
  bool scan(torch::jit::Block* block);
  bool scan_blocks(torch::jit::Node* node);
  bool mark(const torch::jit::Value* value) { return values_.insert(value).second; }

  std::unordered_set<const torch::jit::Value*> values_;
};

}  // namespace tsquant

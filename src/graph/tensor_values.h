#pragma once

#include <torch/csrc/jit/ir/ir.h>

#include <string>
#include <unordered_set>
#include <vector>

namespace tsquant {

/// Whether a type can hold tensors: Tensor, and optionals, lists, tuples and dictionaries of it.
bool carries_tensor(const c10::TypePtr& type);

/// Bare name of the function that a node calls, as NNCF's FX backend sees it: `conv2d` for a two-dimensional
/// aten::_convolution, `add_`, `scaled_dot_product_attention`.
std::string function_of(const torch::jit::Node* node);

/// A tensor constant without dimensions: a number that TorchScript wrote as a tensor. FX graphs hold it as a literal.
bool is_scalar_constant(const torch::jit::Value* value);

/// A list or dictionary that is changed after it was built, so that its construction does not tell its content.
bool is_mutated_container(const torch::jit::Value* value);

/// A value that is another value under a new name or type: checked casts, and elements of tuples and lists whose
/// construction is visible. Returns the value it stands for; `value` itself when it is none of these.
torch::jit::Value* see_through(torch::jit::Value* value);

/// Whether a value may hold nothing at run time: LibTorch gives the results of a branch that left early no value
/// (prim::Uninitialized) and never reads them. No operator may be put on such a value.
bool may_be_uninitialized(const torch::jit::Value* value);

/// Whether the node makes a container from its inputs, so that readers of the container read the inputs.
bool is_construction(const torch::jit::Node* node);

/// Tensors computed from sizes alone (prim::NumToTensor and arithmetic on it). Traces write `x.size(0) // 2` so; in
/// FX graphs these are folded into numbers, and they are no part of the view.
class SizeArithmetic {
 public:
  explicit SizeArithmetic(torch::jit::Graph& graph) { scan(graph.block()); }
  /// Looks at nodes that were added since, in execution order.
  void add(const std::vector<torch::jit::Node*>& nodes) {
    for (torch::jit::Node* node : nodes) look_at(node);
  }
  bool contains(const torch::jit::Value* value) const { return values_.count(value) != 0; }

 private:
  void scan(torch::jit::Block* block);
  void look_at(torch::jit::Node* node);
  std::unordered_set<const torch::jit::Value*> values_;
};

/// What a node is for the view.
enum class NodeRole {
  kNone,      ///< no tensor result, or bookkeeping: attributes, constants, containers, size arithmetic
  kOperator,  ///< an operator with one or more tensor results
  kUnpack,    ///< takes the elements out of a container that an operator returned
  kControl,   ///< prim::If or prim::Loop with tensor results
};
NodeRole role_of(const torch::jit::Node* node, const SizeArithmetic& sizes);

/// The results that can hold tensors. Operators whose further results only serve the backward pass or are debug
/// output (scaled_dot_product_attention) have one, unless the others are used.
std::vector<torch::jit::Value*> tensor_results(const torch::jit::Node* node);

}  // namespace tsquant

#include <ATen/ATen.h>

#include "graph/names.h"
#include "graph/node_lists.h"
#include "graph/weighted_layer.h"
#include "lowering/engines/weighted_op.h"

namespace tsquant {

namespace {

using torch::jit::Node;
using torch::jit::Value;

/// A product of an activation with a matrix [inputs, outputs] of quantized values.
struct Product {
  Value *input = nullptr, *weight = nullptr;
  Value* bias = nullptr;  ///< of aten::addmm
};

Product product_of(const Model& model, Node* node) {
  if (node->kind() != c10::aten::addmm) return {node->input(0), node->input(1)};
  if (!is_plain_addmm(model, node)) return {};
  return {node->input(1), node->input(2), node->input(0)};
}

/// [inputs, outputs] -> [outputs, inputs], with the same codes.
at::Tensor transposed(const at::Tensor& weight) {
  const at::Tensor codes = weight.int_repr().t().contiguous();
  if (weight.qscheme() == at::kPerTensorAffine) {
    return at::_make_per_tensor_quantized_tensor(codes, weight.q_scale(), weight.q_zero_point());
  }
  return at::_make_per_channel_quantized_tensor(codes, weight.q_per_channel_scales(),
                                                weight.q_per_channel_zero_points(), 1 - weight.q_per_channel_axis());
}

bool make_linear(LoweringContext& context, Node* node) {
  const Model& model = context.model();
  const Product product = product_of(model, node);
  if (product.input == nullptr || context.codes_of(product.input) == nullptr) return false;
  Node* reader = nullptr;
  const at::Tensor weight = quantized_weight(model, product.weight, reader);
  if (!weight.defined() || weight.dim() != 2 || weight.scalar_type() != at::kQInt8) return false;
  if (product.bias != nullptr && !is_bias(model, product.bias, weight.size(1))) {
    context.refuse(node, "what it adds is not one constant per output");
    return false;
  }
  if (!context.may_lower(node, node->output())) return false;
  Value* codes = context.attribute(node, names_of(node).name + "_weight", transposed(weight));
  Value* dequantized = context.insert(node, "aten::dequantize", {codes}, nullptr);
  Value* bias = product.bias != nullptr ? product.bias : context.constant(node, c10::IValue());
  Value* result = context.insert(node, "aten::linear", {product.input, dequantized, bias}, node);
  context.renames(result, node->output());
  node->output()->replaceAllUsesWith(result);
  context.destroy(node);
  return true;
}

}  // namespace

// %y = aten::addmm(%bias, dequantize(%x), dequantize(%weight), 1, 1)
//   ->
// %y = aten::linear(dequantize(%x), dequantize(%transposed), %bias)
//
// The layers of GPT-2 and others keep their weight as [inputs, outputs]; so do products with a parameter.
bool make_linear_layers(LoweringContext& context) {
  bool changed = false;
  for (Node* node : nodes_of_kind(context.graph().block(), {"aten::addmm", "aten::matmul", "aten::mm"})) {
    changed |= make_linear(context, node);
  }
  if (changed) context.remove_dead_code();
  return changed;
}

}  // namespace tsquant


#include "graph/dead_code.h"
#include "graph/names.h"
#include "graph/node_lists.h"
#include "graph/params.h"
#include "graph/weighted_layer.h"
#include "passes/passes.h"
#include "passes/rewrite.h"

namespace tsquant {

namespace {

using torch::jit::Block;
using torch::jit::Node;
using torch::jit::Value;

/// The two-dimensional parameter whose transpose `value` is; null when it is something else.
Value* transposed_parameter(const Model& model, Value* value) {
  const Node* node = value->node();
  if (node->kind() == c10::aten::transpose) {
    const auto a = constant_of(model, node->input(1)), b = constant_of(model, node->input(2));
    if (!a || !b || !a->isInt() || !b->isInt() || (a->toInt() & 1) == (b->toInt() & 1)) return nullptr;
  } else if (node->kind() == c10::aten::permute) {
    const auto dims = constant_of(model, node->input(1));
    // For a matrix [1, 0], whatever the signs.
    if (!dims || !dims->isIntList() || dims->toIntVector().size() != 2 || (dims->toIntVector()[0] & 1) == 0) {
      return nullptr;
    }
  } else if (node->kind() != c10::aten::t && node->kind() != c10::aten::numpy_T) {
    return nullptr;
  }
  const auto weight = param_of(model, node->input(0));
  return weight && weight->tensor.dim() == 2 ? node->input(0) : nullptr;
}

/// A bias that aten::linear accepts, for a weight that is a parameter.
bool is_bias_of(const Model& model, const Value* bias, const Value* weight) {
  const auto parameter = param_of(model, weight);
  return parameter && is_bias(model, bias, parameter->tensor.size(0));
}

/// Replaces operators by aten::linear, under names of their own.
class LinearMaker {
 public:
  explicit LinearMaker(Model& model) : model_(model) {}

  void make(Node* old, Value* x, Value* weight, Value* bias) {
    if (!names_) names_.emplace(*model_.graph());
    names_->rename(replace_node(old, "aten::linear", {x, weight, bias}), "linear");
  }

 private:
  Model& model_;
  c10::optional<FunctionNames> names_;  ///< of the graph when the first operator is replaced
};

// %y = aten::addmm(%b, %x, aten::t(%w), 1, 1)   ->   %y = aten::linear(%x, %w, %b)
bool convert_addmm(RewriteContext& ctx) {
  Model& model = ctx.model;
  const auto products = nodes_of_kind(model.graph()->block(), {"aten::addmm"});
  if (products.empty()) return false;
  const ParamScope scope(model);
  LinearMaker linear(model);
  bool changed = false;
  for (Node* node : products) {
    ctx.at(node);
    Value* weight = transposed_parameter(model, node->input(2));
    if (!weight || !is_bias_of(model, node->input(0), weight) || !is_plain_addmm(model, node)) continue;
    linear.make(node, node->input(1), weight, node->input(0));
    changed = true;
  }
  return changed;
}

/// The addition of a bias that is the only user of `product`, and where the bias is among its inputs.
Node* bias_addition(const Model& model, Value* product, const Value* weight, size_t& bias_index) {
  if (product->uses().size() != 1) return nullptr;
  Node* add = product->uses()[0].user;
  if (add->kind() != c10::aten::add || add->inputs().size() != 3 ||
      add->owningBlock() != product->node()->owningBlock())
    return nullptr;
  bias_index = add->input(0) == product ? 1 : 0;
  return is_bias_of(model, add->input(bias_index), weight) && equals_number(model, add->input(2), 1) ? add : nullptr;
}

// %m = aten::matmul(%x, aten::t(%w)); %y = aten::add(%m, %b, 1)   ->   %y = aten::linear(%x, %w, %b)
// %m = aten::matmul(%x, aten::t(%w))                              ->   %m = aten::linear(%x, %w, None)
bool convert_matmul(RewriteContext& ctx) {
  Model& model = ctx.model;
  const auto products = nodes_of_kind(model.graph()->block(), {"aten::matmul", "aten::mm"});
  if (products.empty()) return false;
  const ParamScope scope(model);
  LinearMaker linear(model);
  bool changed = false;
  for (Node* node : products) {
    ctx.at(node);
    Value* weight = transposed_parameter(model, node->input(1));
    if (!weight) continue;
    size_t bias_index = 0;
    Node* add = bias_addition(model, node->output(), weight, bias_index);
    // The product's own node is the one that carries the layer's name.
    const NodeNames names = names_of(node);
    Node* place = add ? add : node;
    Value* bias = nullptr;
    if (add) {
      bias = add->input(bias_index);
    } else {
      torch::jit::WithInsertPoint guard(node);
      bias = model.graph()->insertConstant(c10::IValue());
    }
    Value* x = node->input(0);
    if (add) set_names(add, names);
    linear.make(place, x, weight, bias);
    if (add) node->destroy();
    changed = true;
  }
  return changed;
}

/// The only operator of a branch besides constants and attribute reads; null when there are several.
Node* single_linear(Block* block) {
  Node* found = nullptr;
  for (Node* node : block->nodes()) {
    if (node->kind() == c10::prim::Constant) continue;
    if (node->kind() != c10::aten::linear || found) return nullptr;
    found = node;
  }
  return found && block->outputs().size() == 1 && block->outputs()[0] == found->output() ? found : nullptr;
}

bool same_input(const Model& model, const Value* a, const Value* b) {
  if (a == b) return true;
  const auto left = constant_of(model, a), right = constant_of(model, b);
  return left && right && left->isNone() && right->isNone();
}

// prim::If(%is_two_dimensional): -> (aten::linear(%x, %w, %b)) else: -> (aten::linear(%x, %w, %b))
//   ->
// aten::linear(%x, %w, %b)
//
// nn.functional.linear of PyTorch before 1.8 chooses between addmm and matmul in TorchScript.
bool merge_equal_branches(RewriteContext& ctx) {
  Model& model = ctx.model;
  bool changed = false;
  for (Node* node : nodes_of_kind(model.graph()->block(), {"prim::If"})) {
    ctx.at(node);
    Node* first = single_linear(node->blocks()[0]);
    Node* second = single_linear(node->blocks()[1]);
    if (!first || !second) continue;
    bool same = true;
    for (size_t i = 0; i < 3; ++i) same = same && same_input(model, first->input(i), second->input(i));
    if (!same) continue;
    for (size_t i = 0; i < 3; ++i) {
      if (first->input(i)->node()->owningBlock() == first->owningBlock()) first->input(i)->node()->moveBefore(node);
    }
    first->moveBefore(node);
    node->output()->replaceAllUsesWith(first->output());
    node->destroy();
    changed = true;
  }
  return changed;
}

}  // namespace

bool canonicalize_linear(RewriteContext& ctx) {
  bool changed = convert_addmm(ctx);
  changed |= convert_matmul(ctx);
  if (!changed) return false;
  auto graph = ctx.model.graph();
  remove_dead_code(graph);
  if (merge_equal_branches(ctx)) remove_dead_code(graph);
  return true;
}

}  // namespace tsquant

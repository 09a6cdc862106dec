#include "passes/foldable.h"

#include <torch/csrc/jit/ir/constants.h>

#include <algorithm>
#include <unordered_set>

#include "graph/node_lists.h"

namespace tsquant {

namespace {

using torch::jit::Block;
using torch::jit::Node;
using torch::jit::Value;
using Kinds = std::unordered_set<c10::Symbol>;

bool is_constant_value(const Value* value) { return value->node()->kind() == c10::prim::Constant; }

bool has_only_constants(const Node* node) {
  return std::all_of(node->inputs().begin(), node->inputs().end(), is_constant_value);
}

bool is_propagated(const Node* node) {
  if (node->kind() == c10::prim::Constant || node->kind() == c10::prim::GetAttr) return false;
  if (!node->blocks().empty() && (node->kind() != c10::prim::If || !node->outputs().empty())) return true;
  return node->kind() != c10::prim::RaiseException && has_only_constants(node);
}

/// Arithmetic with a number may be one that changes nothing: x + 0, x * 1.
bool is_arithmetic_with_number(const Node* node) {
  static const Kinds kinds = {c10::aten::add, c10::aten::sub, c10::aten::mul, c10::aten::div};
  return kinds.count(node->kind()) != 0 && !holds_tensor(node->input(1));
}

/// Operators with tensors as results that the peephole pass replaces.
bool is_replaced_kind(const Node* node) {
  static const Kinds kinds = {c10::aten::expand,
                              c10::aten::t,
                              c10::aten::type_as,
                              c10::aten::_grad_sum_to_size,
                              c10::aten::_unwrap_optional,
                              c10::aten::__getitem__,
                              c10::prim::ListUnpack,
                              c10::prim::TupleUnpack,
                              c10::prim::TupleIndex,
                              c10::prim::unchecked_cast,
                              c10::prim::unchecked_unwrap_optional};
  return kinds.count(node->kind()) != 0 || is_arithmetic_with_number(node);
}

bool is_convolution(const Node* node) {
  static const Kinds kinds = {c10::aten::conv1d, c10::aten::conv2d, c10::aten::conv3d};
  return kinds.count(node->kind()) != 0;
}

/// Operators without a tensor as result that the pass leaves alone.
bool is_kept_kind(const Node* node) {
  static const Kinds compared = {c10::aten::eq, c10::aten::ne, c10::aten::lt,
                                 c10::aten::le, c10::aten::gt, c10::aten::ge};
  static const Kinds kept = {c10::prim::Constant,       c10::prim::GetAttr, c10::prim::ListConstruct,
                             c10::prim::RaiseException, c10::aten::size,    c10::aten::format};
  if (compared.count(node->kind()) != 0) return node->input(0) != node->input(1);
  if (node->kind() == c10::aten::dim) return !is_convolution(node->input()->node());
  if (node->kind() == c10::prim::If) return node->outputs().empty();
  return kept.count(node->kind()) != 0;
}

/// A tuple that only leaves the graph stays what it is.
bool is_returned_tuple(const Node* node) {
  if (node->kind() != c10::prim::TupleConstruct) return false;
  const auto& uses = node->output()->uses();
  return std::all_of(uses.begin(), uses.end(), [](const auto& use) { return use.user->kind() == c10::prim::Return; });
}

bool is_none(const Value* value) { return value->type()->kind() == c10::TypeKind::NoneType; }

bool is_simplified(const Node* node) {
  const auto outputs = node->outputs();
  if (node->kind() != c10::prim::Constant && std::any_of(outputs.begin(), outputs.end(), is_none)) return true;
  if (is_kept_kind(node) || is_returned_tuple(node)) return false;
  return is_replaced_kind(node) || outputs.empty() || !std::all_of(outputs.begin(), outputs.end(), holds_tensor);
}

/// Numbers, strings and devices cannot be written to.
bool can_be_changed(const Value* value) {
  c10::TypePtr type = value->type();
  if (const auto optional = type->cast<c10::OptionalType>()) type = optional->getElementType();
  static const std::unordered_set<int> fixed = {
      static_cast<int>(c10::TypeKind::IntType),     static_cast<int>(c10::TypeKind::FloatType),
      static_cast<int>(c10::TypeKind::BoolType),    static_cast<int>(c10::TypeKind::StringType),
      static_cast<int>(c10::TypeKind::NoneType),    static_cast<int>(c10::TypeKind::NumberType),
      static_cast<int>(c10::TypeKind::ComplexType), static_cast<int>(c10::TypeKind::DeviceObjType)};
  return fixed.count(static_cast<int>(type->kind())) == 0;
}

bool computes_changeable(const Node* node) {
  if (node->kind() == c10::prim::ListConstruct || node->kind() == c10::prim::Constant) return false;
  if (!node->blocks().empty() || node->inputs().empty() || !has_only_constants(node)) return false;
  return std::any_of(node->inputs().begin(), node->inputs().end(), can_be_changed) ||
         std::any_of(node->outputs().begin(), node->outputs().end(), can_be_changed);
}

/// Whether the operator writes into an argument that is no tensor.
bool changes_containers(const Node* node) {
  const auto* schema = node->maybeSchema();
  if (schema == nullptr || !schema->is_mutable()) return false;
  const auto& arguments = schema->arguments();
  return std::any_of(arguments.begin(), arguments.end(), [](const c10::Argument& argument) {
    return argument.alias_info() != nullptr && argument.alias_info()->isWrite() &&
           !argument.type()->isSubtypeOf(*c10::TensorType::get());
  });
}

/// Puts the nodes of the branch that is taken in the place of the `prim::If`.
void inline_branch(Node* branches, Block* taken) {
  const std::vector<Node*> nodes(taken->nodes().begin(), taken->nodes().end());
  for (Node* node : nodes) node->moveBefore(branches);
  for (size_t i = 0; i < branches->outputs().size(); ++i) {
    branches->outputs()[i]->replaceAllUsesWith(taken->outputs()[i]);
  }
  branches->destroy();
}

}  // namespace

bool may_propagate(const Block* block) { return any_node(block, is_propagated); }

bool may_simplify(const Block* block) { return any_node(block, is_simplified); }

bool needs_alias_analysis(const Block* block) {
  return any_node(block, [](const Node* node) { return computes_changeable(node) || changes_containers(node); });
}

bool inline_constant_branches(Block* block) {
  bool changed = false;
  for (auto next = block->nodes().begin(); next != block->nodes().end();) {
    Node* node = *next;
    ++next;
    for (Block* inner : node->blocks()) changed |= inline_constant_branches(inner);
    const auto condition = node->kind() == c10::prim::If ? torch::jit::constant_as<bool>(node->input()) : c10::nullopt;
    if (!condition) continue;
    inline_branch(node, node->blocks()[*condition ? 0 : 1]);
    changed = true;
  }
  return changed;
}

bool fold_constant_lists(torch::jit::Graph& graph) {
  const auto nodes = all_nodes(graph.block());
  if (std::any_of(nodes.begin(), nodes.end(), changes_containers)) return false;
  bool changed = false;
  for (Node* node : nodes) {
    if (node->kind() != c10::prim::ListConstruct || !has_only_constants(node)) continue;
    c10::impl::GenericList elements(node->output()->type()->expectRef<c10::ListType>().getElementType());
    for (const Value* input : node->inputs()) elements.push_back(*torch::jit::toIValue(input));
    const torch::jit::WithInsertPoint guard(node);
    const auto constant = torch::jit::tryInsertConstant(graph, elements);
    if (!constant) continue;
    node->output()->replaceAllUsesWith(*constant);
    node->destroy();
    changed = true;
  }
  return changed;
}

}  // namespace tsquant

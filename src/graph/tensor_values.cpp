#include "graph/tensor_values.h"

#include <torch/csrc/jit/ir/constants.h>

namespace tsquant {

using c10::Symbol;
using torch::jit::Block;
using torch::jit::Node;
using torch::jit::Value;

bool carries_tensor(const c10::TypePtr& type) {
  switch (type->kind()) {
    case c10::TypeKind::TensorType:
      return true;
    case c10::TypeKind::OptionalType:
    case c10::TypeKind::ListType:
    case c10::TypeKind::TupleType:
    case c10::TypeKind::DictType:
      for (const auto& inner : type->containedTypes()) {
        if (carries_tensor(inner)) return true;
      }
      return false;
    default:
      return false;
  }
}

namespace {

/// Spatial dimensions of a convolution, read off its stride list.
size_t spatial_dimensions(const Node* node) {
  const Value* stride = node->input(3);
  if (stride->node()->kind() == c10::prim::ListConstruct) return stride->node()->inputs().size();
  const auto value = torch::jit::toIValue(stride);
  return value && value->isIntList() ? value->toIntVector().size() : 2;
}

std::string convolution_name(const Node* node) {
  const bool with_mode = node->kind() == Symbol::aten("_convolution_mode");
  const auto transposed = with_mode ? c10::nullopt : torch::jit::toIValue(node->input(6));
  const std::string base = transposed && transposed->isBool() && transposed->toBool() ? "conv_transpose" : "conv";
  return base + std::to_string(spatial_dimensions(node)) + "d";
}

const std::unordered_set<std::string>& container_writers() {
  static const std::unordered_set<std::string> names = {"append", "extend",     "insert", "pop",       "clear",
                                                        "remove", "reverse",    "sort",   "_set_item", "Delete",
                                                        "update", "setdefault", "popitem"};
  return names;
}

}  // namespace

std::string function_of(const Node* node) {
  static const std::unordered_set<std::string> convolutions = {"_convolution", "convolution", "_convolution_mode",
                                                               "convolution_overrideable"};
  if (node->kind() == c10::prim::If) return "if";
  if (node->kind() == c10::prim::Loop) return "loop";
  const std::string name = node->kind().toUnqualString();
  if (node->kind().is_aten() && convolutions.count(name) && node->inputs().size() > 6) return convolution_name(node);
  if (name == "_scaled_dot_product_attention") return "scaled_dot_product_attention";
  return name;
}

bool is_scalar_constant(const Value* value) {
  if (value->node()->kind() != c10::prim::Constant || value->type()->kind() != c10::TypeKind::TensorType) return false;
  const auto constant = torch::jit::toIValue(value);
  return constant && constant->isTensor() && constant->toTensor().defined() && constant->toTensor().dim() == 0;
}

bool is_mutated_container(const Value* value) {
  for (const auto& use : value->uses()) {
    if (use.offset == 0 && use.user->kind().is_aten() && container_writers().count(use.user->kind().toUnqualString())) {
      return true;
    }
  }
  return false;
}

bool is_construction(const Node* node) {
  const auto kind = node->kind();
  if (kind == c10::prim::TupleConstruct) return true;
  if (kind != c10::prim::ListConstruct && kind != c10::prim::DictConstruct) return false;
  return !is_mutated_container(node->output());
}

namespace {

/// Element of a visible construction, or null.
Value* visible_element(Value* container, size_t index) {
  Node* maker = see_through(container)->node();
  if (maker->kind() == c10::prim::DictConstruct || !is_construction(maker)) return nullptr;
  return index < maker->inputs().size() ? maker->input(index) : nullptr;
}

Value* one_step(Value* value) {
  Node* node = value->node();
  const auto kind = node->kind();
  if (kind == c10::prim::unchecked_cast || kind == c10::prim::unchecked_unwrap_optional ||
      kind == c10::aten::_unwrap_optional) {
    return node->inputs().empty() ? nullptr : node->input(0);
  }
  if (kind == c10::prim::TupleUnpack || kind == c10::prim::ListUnpack) {
    return visible_element(node->input(), value->offset());
  }
  if (kind == c10::prim::TupleIndex) {
    const auto index = torch::jit::toIValue(node->input(1));
    return index && index->isInt() && index->toInt() >= 0 ? visible_element(node->input(0), index->toInt()) : nullptr;
  }
  return nullptr;
}

}  // namespace

Value* see_through(Value* value) {
  while (Value* next = one_step(value)) value = next;
  return value;
}

namespace {

bool may_be_uninitialized(const Value* value, std::unordered_set<const Value*>& seen) {
  if (!seen.insert(value).second) return false;
  Node* node = const_cast<Value*>(value)->node();
  if (node->kind() == c10::prim::Uninitialized) return true;
  if (node->kind() == c10::prim::If) {
    return may_be_uninitialized(node->blocks()[0]->outputs()[value->offset()], seen) ||
           may_be_uninitialized(node->blocks()[1]->outputs()[value->offset()], seen);
  }
  // Carried values stand at the inputs of the body (after the counter) and at the results of the loop.
  size_t carried = value->offset();
  if (node->kind() == c10::prim::Param) {
    node = node->owningBlock()->owningNode();
    if (!node || node->kind() != c10::prim::Loop || carried == 0) return false;
    --carried;
  } else if (node->kind() != c10::prim::Loop) {
    return false;
  }
  return may_be_uninitialized(node->input(carried + 2), seen) ||
         may_be_uninitialized(node->blocks()[0]->outputs()[carried + 1], seen);
}

}  // namespace

bool may_be_uninitialized(const Value* value) {
  const Node* node = value->node();
  if (node->blocks().empty() && node->kind() != c10::prim::Uninitialized && node->kind() != c10::prim::Param)
    return false;
  std::unordered_set<const Value*> seen;
  return may_be_uninitialized(value, seen);
}

void SizeArithmetic::scan(Block* block) {
  for (Node* node : block->nodes()) {
    for (Block* inner : node->blocks()) scan(inner);
    look_at(node);
  }
}

void SizeArithmetic::look_at(Node* node) {
  for (const Value* output : node->outputs()) values_.erase(output);  // the place of one that is gone
  if (node->kind() == c10::prim::NumToTensor) values_.insert(node->output());
  if (!node->kind().is_aten() || node->outputs().size() != 1 || !carries_tensor(node->output()->type())) return;
  bool from_sizes = false, from_tensors = false;
  for (const Value* input : node->inputs()) {
    if (!carries_tensor(input->type()) || is_scalar_constant(input)) continue;
    (contains(input) ? from_sizes : from_tensors) = true;
  }
  if (from_sizes && !from_tensors) values_.insert(node->output());
}

std::vector<Value*> tensor_results(const Node* node) {
  std::vector<Value*> results;
  for (Value* output : const_cast<Node*>(node)->outputs()) {
    if (carries_tensor(output->type())) results.push_back(output);
  }
  const bool first_counts = function_of(node) == "scaled_dot_product_attention";
  while (first_counts && results.size() > 1 && results.back()->uses().empty()) results.pop_back();
  return results;
}

NodeRole role_of(const Node* node, const SizeArithmetic& sizes) {
  const auto kind = node->kind();
  if (kind == c10::prim::GetAttr || kind == c10::prim::Constant || is_construction(node)) return NodeRole::kNone;
  if (kind == c10::prim::Param || kind == c10::prim::Return || kind == c10::prim::CreateObject) return NodeRole::kNone;
  const auto results = tensor_results(node);
  if (results.empty() || sizes.contains(results.front()) || see_through(results.front()) != results.front()) {
    return NodeRole::kNone;
  }
  if (kind == c10::prim::If || kind == c10::prim::Loop) return NodeRole::kControl;
  if (kind == c10::prim::TupleUnpack || kind == c10::prim::ListUnpack) return NodeRole::kUnpack;
  return NodeRole::kOperator;
}

}  // namespace tsquant

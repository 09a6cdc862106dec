#include "lowering/engines/seen_layouts.h"

#include <algorithm>
#include <string>

#include "graph/dead_code.h"

namespace tsquant {

using torch::jit::Block;
using torch::jit::Node;
using torch::jit::Value;

namespace {

using Names = std::unordered_set<std::string>;

bool is_aten(const Node* node, const Names& names) {
  return node->kind().is_aten() && names.count(node->kind().toUnqualString()) > 0;
}

/// Operators whose meaning depends on how their first operand lies in memory.
bool reads_memory(const Node* node) {
  static const Names names = {"view",           "view_as", "_unsafe_view",    "unflatten",    "as_strided",
                              "as_strided_",    "stride",  "is_contiguous",   "resize_",      "set_",
                              "storage_offset", "data",    "view_as_complex", "view_as_real", "resize_as_"};
  return is_aten(node, names);
}

/// Operators that return their operand, a view of it or a copy, as its layout has it.
bool may_copy(const Node* node) {
  static const Names names = {"reshape", "reshape_as", "flatten", "contiguous"};
  return is_aten(node, names);
}

/// Operators of other libraries may read memory themselves.
bool is_foreign(const Node* node) {
  const std::string space = node->kind().ns().toUnqualString();
  return space != "aten" && space != "prim" && space != "tsquant" && space != "quantized" &&
         space != "quantized_decomposed" && space != "onnx";
}

/// Operators that write dense results whatever they read.
bool writes_dense(const Node* node) {
  static const Names names = {"linear",  "matmul", "mm",        "addmm",  "bmm",
                              "baddbmm", "mv",     "embedding", "einsum", "contiguous"};
  return is_aten(node, names) || std::string(node->kind().toUnqualString()) == "linear_float";
}

/// Numbers and lists of numbers lie nowhere.
bool may_hold_tensors(const c10::TypePtr& type) {
  using c10::TypeKind;
  static const std::set<TypeKind> plain = {TypeKind::IntType,      TypeKind::FloatType,  TypeKind::BoolType,
                                           TypeKind::NumberType,   TypeKind::StringType, TypeKind::NoneType,
                                           TypeKind::DeviceObjType};
  if (type->kind() == TypeKind::ListType || type->kind() == TypeKind::OptionalType) {
    return may_hold_tensors(type->containedType(0));
  }
  return plain.count(type->kind()) == 0;
}

}  // namespace

bool is_kernel(const LoweringContext& context, const Node* node) {
  return node->outputs().size() == 1 && context.is_lowered(node->output()) && !node->kind().is_aten();
}

SeenLayouts::SeenLayouts(const LoweringContext& context) : context_(context) {
  const auto graph = context.model().graph();
  Block* block = graph->block();
  if (has_mutation(block)) mutation_.emplace(graph);
  mark_inputs(block->return_node());
  // What a loop carries around is known after the first turn; twice reaches the values before it.
  for (int turn = 0; turn < 2; ++turn) visit(block);
}

void SeenLayouts::mark(Node* node, size_t input) {
  if (!may_hold_tensors(node->input(input)->type())) return;
  seen_.insert(node->input(input));
  if (known_.emplace(node, input).second) reads_.emplace_back(node, input);
}

void SeenLayouts::mark_inputs(Node* node) {
  for (size_t i = 0; i < node->inputs().size(); ++i) mark(node, i);
}

bool SeenLayouts::sees_layout(const Node* node) const {
  // A write into a view reaches its operand, one into a copy does not.
  return reads_memory(node) ||
         (mutation_ && may_copy(node) && mutation_->is_written_later(const_cast<Value*>(node->output())));
}

void SeenLayouts::visit(Block* block) {
  for (Node* node : block->nodes().reverse()) {
    const bool handed_on = std::any_of(node->outputs().begin(), node->outputs().end(),
                                       [&](const Value* output) { return contains(output); });
    for (Block* inner : node->blocks()) {
      if (handed_on) mark_inputs(inner->return_node());
      visit(inner);
      const auto inputs = inner->inputs();
      if (std::any_of(inputs.begin(), inputs.end(), [&](const Value* input) { return contains(input); })) {
        mark_inputs(node);
      }
    }
    if (is_foreign(node) || (handed_on && !writes_dense(node) && !is_kernel(context_, node))) {
      mark_inputs(node);
    } else if (sees_layout(node)) {
      mark(node, 0);
    }
  }
}

ImageLayouts::ImageLayouts(const LoweringContext& context) : context_(context) {
  for (int turn = 0; turn < 2; ++turn) visit(context.model().graph()->block());
}

bool ImageLayouts::starts_here(const Node* node) const {
  if (!is_kernel(context_, node)) return false;
  const std::string kind = node->kind().toUnqualString();
  return kind.rfind("linear", 0) != 0 && kind != "mean";
}

template <class Values>
bool ImageLayouts::any_image(const Values& values) const {
  return std::any_of(values.begin(), values.end(), [&](const Value* value) { return contains(value); });
}

void ImageLayouts::visit(Block* block) {
  for (Node* node : block->nodes()) {
    for (Block* inner : node->blocks()) {
      for (Value* input : inner->inputs()) {
        if (any_image(node->inputs())) images_.insert(input);
      }
      visit(inner);
      for (Value* output : node->outputs()) {
        if (any_image(inner->return_node()->inputs())) images_.insert(output);
      }
    }
    if (starts_here(node) || (any_image(node->inputs()) && !writes_dense(node))) {
      for (Value* output : node->outputs()) images_.insert(output);
    }
  }
}

}  // namespace tsquant

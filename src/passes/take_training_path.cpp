#include "passes/take_training_path.h"

#include <torch/csrc/jit/ir/constants.h>

#include <algorithm>

#include "graph/dead_code.h"
#include "graph/node_lists.h"
#include "graph/params.h"
#include "passes/foldable.h"

namespace tsquant {

namespace {

using torch::jit::Block;
using torch::jit::Node;
using torch::jit::Value;

bool is_true(const Value* value) { return torch::jit::constant_as<bool>(const_cast<Value*>(value)).value_or(false); }

/// A constant with letters, or the result of branches that all give such a one.
bool is_never_empty(const Value* text) {
  const Node* node = text->node();
  if (node->kind() == c10::prim::If) {
    const auto blocks = node->blocks();
    return std::all_of(blocks.begin(), blocks.end(),
                       [&](const Block* block) { return is_never_empty(block->outputs()[text->offset()]); });
  }
  const auto constant = torch::jit::toIValue(text);
  return constant && constant->isString() && !constant->toStringRef().empty();
}

/// Whether a text has letters, in the spellings of `if text`, `len(text) > 0` and `len(text) == 0`.
c10::optional<bool> compare_length(const Node* node) {
  const bool is_empty = node->kind() == c10::aten::eq;
  if (!is_empty && node->kind() != c10::aten::gt && node->kind() != c10::aten::ne) return c10::nullopt;
  const Node* length = node->input(0)->node();
  if (length->kind() != c10::aten::len || torch::jit::constant_as<int64_t>(node->input(1)) != 0) return c10::nullopt;
  return is_never_empty(length->input()) ? c10::optional<bool>(!is_empty) : c10::nullopt;
}

bool holds_true(const Value* list) {
  if (list->node()->kind() != c10::prim::ListConstruct) return false;
  const auto elements = list->node()->inputs();
  return std::any_of(elements.begin(), elements.end(), is_true);
}

/// What a question is answered while the model is trained; none where that depends on the inputs.
c10::optional<bool> answer(const ParamIndex& parameters, const Node* node) {
  static const auto is_grad_enabled = c10::Symbol::fromQualString("aten::is_grad_enabled");
  static const auto requires_grad = c10::Symbol::fromQualString("prim::requires_grad");
  if (node->kind() == is_grad_enabled) return true;
  if (node->kind() == requires_grad) {
    const auto parameter = parameters.find(node->input());
    if (parameter && parameter->tensor.defined() && parameter->tensor.is_floating_point()) return true;
  }
  if (node->kind() == c10::aten::any && node->inputs().size() == 1 && holds_true(node->input())) return true;
  return compare_length(node);
}

/// A branch that is gone may decide the next question.
bool decide_questions(const Model& model) {
  const auto graph = model.graph();
  const ParamIndex parameters(model);
  bool changed = false;
  for (Node* node : all_nodes(graph->block())) {
    if (!node->hasUses()) continue;
    const auto known = answer(parameters, node);
    if (!known) continue;
    const torch::jit::WithInsertPoint guard(node);
    node->output()->replaceAllUsesWith(graph->insertConstant(*known));
    changed = true;
  }
  return inline_constant_branches(graph->block()) || changed;
}

}  // namespace

bool asks_for_gradients(const Model& model) {
  return !nodes_of_kind(model.graph()->block(), {"aten::is_grad_enabled"}).empty();
}

bool take_training_path(Model& model) {
  bool changed = false;
  while (decide_questions(model)) changed = true;
  if (changed) remove_dead_code(model.graph());
  return changed;
}

}  // namespace tsquant

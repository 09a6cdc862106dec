#include "graph/constant_expressions.h"

#include <ATen/core/grad_mode.h>
#include <fmt/format.h>
#include <torch/csrc/jit/ir/constants.h>
#include <torch/csrc/jit/runtime/interpreter.h>

#include <functional>
#include <sstream>

#include "graph/node_lists.h"
#include "graph/tensor_values.h"

namespace tsquant {

using torch::jit::Block;
using torch::jit::Graph;
using torch::jit::Node;
using torch::jit::Value;

namespace {

bool writes_input(const Node* node, size_t index) {
  const auto* schema = node->maybeSchema();
  if (!schema || index >= schema->arguments().size()) return false;
  const auto* alias = schema->arguments()[index].alias_info();
  return alias && alias->isWrite();
}

/// Whether a result is new memory, so that who writes into it changes none of the arguments.
bool is_fresh(const Node* node, size_t output) {
  if (!node->kind().is_aten()) return false;
  const auto* schema = node->maybeSchema();
  return schema && output < schema->returns().size() && !schema->returns()[output].alias_info();
}

bool is_plain_prim(const Node* node) {
  static const std::unordered_set<std::string> kinds = {"prim::ListConstruct",
                                                        "prim::TupleConstruct",
                                                        "prim::DictConstruct",
                                                        "prim::ListUnpack",
                                                        "prim::TupleUnpack",
                                                        "prim::TupleIndex",
                                                        "prim::NumToTensor",
                                                        "prim::dtype",
                                                        "prim::device",
                                                        "prim::unchecked_cast",
                                                        "prim::Uninitialized",
                                                        "prim::unchecked_unwrap_optional",
                                                        "prim::If",
                                                        "prim::Loop",
                                                        "prim::RaiseException",
                                                        "prim::min",
                                                        "prim::max",
                                                        "prim::abs",
                                                        "prim::data",
                                                        "prim::layout",
                                                        "prim::is_cuda",
                                                        "prim::requires_grad",
                                                        "prim::shape",
                                                        "prim::tolist",
                                                        "prim::AutogradZero",
                                                        "prim::ImplicitTensorToNum"};
  return kinds.count(node->kind().toQualString()) != 0;
}

/// Why a node by itself can give other results in the next run, or does more than computing them.
std::string node_obstacle(const Node* node) {
  const std::string name = node->kind().toQualString();
  if (node->isNondeterministic()) return fmt::format("draws random numbers ({})", name);
  if (name.find("empty") != std::string::npos) return fmt::format("reads memory that nothing has written ({})", name);
  if (is_plain_prim(node)) return "";
  if (!node->kind().is_aten()) return fmt::format("calls {}", name);
  const auto* schema = node->maybeSchema();
  if (!schema || schema->is_mutable()) return fmt::format("writes in place ({})", name);
  return node->hasSideEffects() ? fmt::format("has effects beside its result ({})", name) : "";
}

bool is_inside(const Value* value, const Node* outer) {
  for (const Block* block = value->node()->owningBlock(); block;) {
    const Node* owner = block->owningNode();
    if (owner == outer) return true;
    block = owner ? owner->owningBlock() : nullptr;
  }
  return false;
}

/// Values that the blocks of a node read from outside.
void collect_captured(const Node* outer, Block* block, std::vector<Value*>& captured) {
  const auto add = [&](const Node* node) {
    for (Value* input : const_cast<Node*>(node)->inputs()) {
      if (!is_inside(input, outer)) captured.push_back(input);
    }
  };
  for (Node* node : block->nodes()) {
    add(node);
    for (Block* inner : node->blocks()) collect_captured(outer, inner, captured);
  }
  add(block->return_node());
}

std::vector<Value*> operands(Node* node) {
  std::vector<Value*> values(node->inputs().begin(), node->inputs().end());
  for (Block* block : node->blocks()) collect_captured(node, block, values);
  return values;
}

}  // namespace

ConstantExpressions::ConstantExpressions(const Model& model) : model_(model), params_(model) {
  const auto nodes = all_nodes(model.graph()->block());
  for (const Node* node : nodes) {
    for (size_t i = 0; i < node->inputs().size(); ++i) {
      if (writes_input(node, i)) mark_written(node->input(i));
    }
  }
  // In execution order, so that no question about a late operator goes back through the whole graph.
  for (const Node* node : nodes) {
    for (const Value* output : node->outputs()) obstacle(output);
  }
}

// Follows aliases back to where the memory comes from: everything on the way sees the change.
void ConstantExpressions::mark_written(const Value* written) {
  std::vector<const Value*> stack{written};
  while (!stack.empty()) {
    const Value* value = stack.back();
    stack.pop_back();
    if (carries_tensor(value->type()) && written_.insert(value).second) push_aliases(value, stack);
  }
}

void ConstantExpressions::push_aliases(const Value* value, std::vector<const Value*>& stack) {
  const Node* node = value->node();
  const size_t offset = value->offset();
  const auto push_inputs = [&stack](const Node* of) {
    stack.insert(stack.end(), of->inputs().begin(), of->inputs().end());
  };
  if (node->kind() == c10::prim::GetAttr) {
    const auto slot = slot_of(model_, value);
    if (slot) written_slots_.emplace(slot->owner.get(), slot->name);
  } else if (node->kind() == c10::prim::Param) {
    const Node* loop = node->owningBlock()->owningNode();
    if (!loop || loop->kind() != c10::prim::Loop || offset == 0) return;
    stack.push_back(loop->input(offset + 1));
    stack.push_back(node->owningBlock()->outputs()[offset]);
  } else if (node->kind() == c10::prim::Loop) {
    stack.push_back(node->input(offset + 2));
    stack.push_back(node->blocks()[0]->outputs()[offset + 1]);
  } else if (node->kind() == c10::prim::If) {
    for (const Block* block : node->blocks()) stack.push_back(block->outputs()[offset]);
  } else if (!is_fresh(node, offset)) {
    push_inputs(node);
  }
  // What was put into a list is reached through the list.
  if (value->type()->kind() == c10::TypeKind::TensorType) return;
  for (const auto& use : value->uses()) {
    if (writes_input(use.user, use.offset)) push_inputs(use.user);
  }
}

const std::string& ConstantExpressions::obstacle(const Value* value) {
  const auto known = obstacles_.find(value);
  if (known != obstacles_.end()) return known->second;
  std::string found = find_obstacle(value);
  return obstacles_[value] = std::move(found);
}

std::string ConstantExpressions::attribute_obstacle(const Node* node) {
  const auto slot = slot_of(model_, node->output());
  if (!slot) return "reads an object that is known at run time only";
  if (node->output()->type()->is_module()) return "";
  const c10::IValue value = slot->value();
  const bool fixed = value.isTensor() ? params_.find(node->output()).has_value() &&
                                            !written_slots_.count({slot->owner.get(), slot->name})
                                      : constant_of(model_, node->output()).has_value();
  return fixed ? "" : fmt::format("reads {}, which the model changes", slot->path);
}

std::string ConstantExpressions::find_obstacle(const Value* value) {
  Node* node = const_cast<Value*>(value)->node();
  if (node->kind() == c10::prim::Param) {
    const Node* loop = node->owningBlock()->owningNode();
    if (loop) return "changes from step to step of a loop";
    if (value->offset() == 0) return "";
    return fmt::format("depends on the input \"{}\"", model_.input_names().at(value->offset() - 1));
  }
  if (node->kind() == c10::prim::Constant) return "";
  if (node->kind() == c10::prim::GetAttr) return attribute_obstacle(node);
  if (written_.count(value)) return "is changed in place";
  std::string found = node_obstacle(node);
  for (Block* block : node->blocks()) {
    if (found.empty()) found = block_obstacle(node, block);
  }
  for (const Value* operand : operands(node)) {
    if (found.empty()) found = obstacle(operand);
  }
  return found;
}

std::string ConstantExpressions::block_obstacle(const Node* outer, Block* block) {
  for (Node* node : block->nodes()) {
    if (node->kind() == c10::prim::Constant) continue;
    if (node->kind() == c10::prim::GetAttr) {
      if (!obstacle(node->output()).empty()) return obstacle(node->output());
      continue;
    }
    for (const Value* output : node->outputs()) {
      if (written_.count(output)) return "is changed in place";
    }
    std::string found = node_obstacle(node);
    for (Block* inner : node->blocks()) {
      if (found.empty()) found = block_obstacle(outer, inner);
    }
    if (!found.empty()) return found;
  }
  return "";
}

int64_t ConstantExpressions::identity(const Value* value) {
  const auto known = identities_.find(value);
  if (known != identities_.end()) return known->second;
  Node* node = const_cast<Value*>(value)->node();
  std::ostringstream text;
  text << node->kind().toQualString() << '.' << value->offset();
  const auto slot = slot_of(model_, value);
  const auto constant = node->kind() == c10::prim::Constant ? torch::jit::toIValue(value) : c10::nullopt;
  if (slot) {
    text << ' ' << slot->owner.get() << ' ' << slot->name;
  } else if (constant && !constant->isTensor()) {
    text << ' ' << *value->type() << ' ' << *constant;
  } else if (constant || !node->blocks().empty() || node->kind() == c10::prim::Param) {
    text << ' ' << static_cast<const void*>(node);
  } else {
    for (const Value* input : node->inputs()) text << ' ' << identity(input);
  }
  const auto next = static_cast<int64_t>(identity_of_text_.size());
  return identities_[value] = identity_of_text_.emplace(text.str(), next).first->second;
}

namespace {

/// Everything that has to run for a value, in an order in which it can run.
std::vector<Node*> nodes_of(Value* value) {
  std::vector<Node*> order;
  std::unordered_set<const Node*> seen;
  const std::function<void(Node*)> visit = [&](Node* node) {
    if (node->kind() == c10::prim::Param || !seen.insert(node).second) return;
    for (Value* operand : operands(node)) visit(operand->node());
    order.push_back(node);
  };
  visit(value->node());
  return order;
}

}  // namespace

at::Tensor compute_constant(const Model& model, Value* value) {
  const at::NoGradGuard no_grad;
  auto graph = std::make_shared<Graph>();
  Value* self = model.graph()->inputs().at(0);
  std::unordered_map<const Value*, Value*> copies{{self, graph->addInput("self")->setType(self->type())}};
  for (Node* node : nodes_of(value)) {
    Node* copy = graph->insertNode(graph->createClone(node, [&](Value* old) { return copies.at(old); }));
    for (size_t i = 0; i < node->outputs().size(); ++i) copies[node->output(i)] = copy->output(i);
  }
  graph->registerOutput(copies.at(value));
  torch::jit::Stack stack{model.module()._ivalue()};
  torch::jit::InterpreterState(torch::jit::Code(graph, "constant")).run(stack);
  return stack.back().toTensor();
}

std::vector<AttributeSlot> sources_of(const Model& model, Value* value) {
  std::vector<AttributeSlot> slots;
  std::set<std::pair<const c10::ivalue::Object*, std::string>> seen;
  const auto add = [&](const Node* node) {
    if (node->kind() != c10::prim::GetAttr || !carries_tensor(node->output()->type())) return;
    const auto slot = slot_of(model, node->output());
    if (slot && seen.emplace(slot->owner.get(), slot->name).second) slots.push_back(*slot);
  };
  for (Node* node : nodes_of(value)) {
    add(node);
    for (Block* block : node->blocks()) {
      for (const Node* inner : all_nodes(block)) add(inner);
    }
  }
  return slots;
}

}  // namespace tsquant

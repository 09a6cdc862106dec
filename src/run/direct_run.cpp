#include "run/direct_run.h"

#include <ATen/core/grad_mode.h>
#include <torch/csrc/jit/ir/constants.h>
#include <torch/csrc/jit/runtime/operator.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "graph/attribute_slots.h"
#include "graph/fresh_writes.h"
#include "graph/node_lists.h"
#include "io/file_mapping.h"
#include "run/tap_runner.h"
#include "tsquant/error.h"

namespace tsquant {

namespace {

using torch::jit::Block;
using torch::jit::Node;
using torch::jit::Stack;
using torch::jit::Value;

/// What the interpreter does without an operator, and DirectRun does, too.
bool is_instruction(const Node* node) {
  switch (node->kind()) {
    case c10::prim::Constant:
      return node->output()->type()->kind() != c10::TypeKind::FunctionType;
    case c10::prim::TupleConstruct: {
      const auto type = node->output()->type()->cast<c10::TupleType>();
      return type && !type->name();
    }
    case c10::prim::GetAttr:
    case c10::prim::If:
    case c10::prim::ListConstruct:
    case c10::prim::ListUnpack:
    case c10::prim::unchecked_cast:
      return true;
    default:
      return false;
  }
}

bool needs_interpreter(const Node* node) {
  if (is_instruction(node)) return false;
  // What has an effect besides its results must not happen again in the interpreter when something fails later.
  if (!node->blocks().empty() || (node->hasSideEffects() && node->kind() != c10::prim::RaiseException)) return true;
  if (node->kind() == c10::prim::SetAttr) return true;
  const auto* operation = node->maybeOperator();
  return operation == nullptr || !operation->hasOperation() || !writes_only_new_tensors(node);
}

/// Values stand in a list by their number, and leave it with their last reader.
class DirectRun {
 public:
  DirectRun(const ValueSink& sink, WeightPages pages) : sink_(sink), gives_back_(pages == WeightPages::kGiveBack) {}

  c10::IValue run(const torch::jit::Graph& graph, Stack arguments) {
    for (size_t i = 0; i < arguments.size(); ++i) define(graph.inputs().at(i), std::move(arguments[i]));
    arguments.clear();
    run_block(graph.block());
    Stack results;
    for (const Value* output : graph.outputs()) results.push_back(take(output));
    return results.size() == 1 ? results.front() : c10::ivalue::Tuple::create(std::move(results));
  }

 private:
  struct Entry {
    c10::IValue content;
    size_t readers = 0;  ///< that are still to come
  };

  void define(const Value* value, c10::IValue content) {
    if (sink_) sink_(value, content);
    const size_t readers = value->uses().size(), place = value->unique();
    if (readers == 0) return;
    if (place >= values_.size()) values_.resize(std::max(place + 1, 2 * values_.size()));
    values_[place] = {std::move(content), readers};
  }

  c10::IValue take(const Value* value) {
    Entry& entry = values_.at(value->unique());
    return --entry.readers == 0 ? std::move(entry.content) : entry.content;
  }

  /// The readers in a block that does not run.
  void skip(const Block* block) {
    for (const Node* node : block->nodes()) {
      for (const Block* inner : node->blocks()) skip(inner);
      skip_inputs(node);
    }
    skip_inputs(block->return_node());
  }

  void skip_inputs(const Node* node) {
    for (const Value* input : node->inputs()) {
      if (input->unique() >= values_.size()) continue;  // defined where nothing runs
      Entry& entry = values_[input->unique()];
      if (entry.readers > 0 && --entry.readers == 0) entry.content = c10::IValue();
    }
  }

  void run_block(const Block* block) {
    for (const Node* node : block->nodes()) run_node(node);
  }

  void run_node(const Node* node) {
    if (node->kind() == c10::prim::If) return run_branch(node);
    stack_.clear();
    for (const Value* input : node->inputs()) stack_.push_back(take(input));
    switch (node->kind()) {
      case c10::prim::Constant:
        stack_.push_back(torch::jit::toIValue(node->output()).value());
        break;
      case c10::prim::GetAttr:
        stack_.back() = attribute_of(stack_.back().toObjectRef(), node->s(c10::attr::name));
        break;
      case c10::prim::ListConstruct:
        stack_ = {list_of(node)};
        break;
      case c10::prim::TupleConstruct:
        stack_ = {c10::ivalue::Tuple::create(std::move(stack_))};
        break;
      case c10::prim::ListUnpack:
        stack_ = stack_.back().toListRef().vec();
        break;
      case c10::prim::unchecked_cast:
        break;
      default:
        call_operator(node);
    }
    if (stack_.size() != node->outputs().size()) throw Error(ErrorCode::kInternal, "an operator has other results");
    for (size_t i = 0; i < stack_.size(); ++i) define(node->output(i), std::move(stack_[i]));
  }

  static c10::IValue attribute_of(const c10::ivalue::Object& object, const std::string& name) {
    return object.getSlot(find_attribute_slot(*object.type(), name).value());
  }

  c10::IValue list_of(const Node* node) const {
    c10::impl::GenericList list(node->output()->type()->expectRef<c10::ListType>().getElementType());
    list.reserve(stack_.size());
    for (const auto& element : stack_) list.push_back(element);
    return list;
  }

  void call_operator(const Node* node) {
    if (gives_back_) return call_and_give_back(node);
    call(node);
  }

  /// Views of a weight hand it on to their readers.
  void call_and_give_back(const Node* node) {
    std::vector<at::Tensor> weights;
    for (const auto& value : stack_) {
      if (value.isTensor() && is_mapped(value.toTensor())) weights.push_back(value.toTensor());
    }
    call(node);
    const bool is_view = std::any_of(stack_.begin(), stack_.end(), [](const c10::IValue& result) {
      return result.isTensor() && is_mapped(result.toTensor());
    });
    if (is_view) return;
    for (const auto& weight : weights) give_pages_back(weight);
  }

  void call(const Node* node) {
    const auto& operation = node->getOperator();
    if (operation.schema().is_vararg()) stack_.push_back(static_cast<int64_t>(node->inputs().size()));
    operation.getOperation(node)(stack_);
  }

  void run_branch(const Node* node) {
    const bool condition = take(node->input()).toBool();
    const Block* taken = node->blocks().at(condition ? 0 : 1);
    skip(node->blocks().at(condition ? 1 : 0));
    run_block(taken);
    Stack results;
    for (const Value* output : taken->outputs()) results.push_back(take(output));
    for (size_t i = 0; i < results.size(); ++i) define(node->output(i), std::move(results[i]));
  }

  const ValueSink& sink_;
  const bool gives_back_;
  std::vector<Entry> values_;
  Stack stack_;
};

}  // namespace

c10::optional<c10::IValue> run_directly(const Model& model, const Sample& sample, const ValueSink& sink,
                                        WeightPages pages) {
  const auto graph = model.graph();
  if (any_node(graph->block(), needs_interpreter)) return c10::nullopt;
  const at::NoGradGuard no_grad;
  try {
    return DirectRun(sink, pages).run(*graph, bind_arguments(model, sample));
  } catch (const std::exception&) {
    return c10::nullopt;
  }
}

}  // namespace tsquant

#include "lowering/backends/lowering_state.h"

#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/csrc/jit/passes/dead_code_elimination.h>

#include <cctype>

#include "graph/names.h"
#include "graph/params.h"
#include "graph/walk.h"
#include "tsquant/error.h"

namespace tsquant {

using torch::jit::Node;
using torch::jit::Value;

Lowering::Lowering(Model& model, std::string engine, Report& report)
    : model_(model), graph_(model.graph()), engine_(std::move(engine)), report_(report) {
  for (size_t i = 0; i < report_.nodes.size(); ++i) records_.emplace(report_.nodes[i].name, i);
}

Value* Lowering::codes_of(const Value* value) const {
  const Node* node = value->node();
  if (node->kind() != c10::Symbol::fromQualString("aten::dequantize")) return nullptr;
  auto* codes = const_cast<Value*>(node->input(0));
  return params_.count(codes) ? codes : nullptr;
}

Value* Lowering::insert(Node* position, const std::string& kind, const std::vector<Value*>& inputs, const Node* named) {
  Node* node = graph_->create(c10::Symbol::fromQualString(kind), inputs, 1);
  node->output()->setType(c10::TensorType::get());
  if (named != nullptr) {
    copy_names(named, node);
    node->setSourceRange(named->sourceRange());
  }
  node->insertBefore(position);
  return node->output();
}

Value* Lowering::constant(Node* position, const c10::IValue& value) {
  const torch::jit::WithInsertPoint guard(position);
  return graph_->insertConstant(value);
}

Value* Lowering::attribute(Node* position, const std::string& name, const c10::IValue& object) {
  std::string plain = "packed_";
  for (const char c : name) plain += std::isalnum(static_cast<unsigned char>(c)) ? c : '_';
  auto& module = model_.module();
  std::string unique = plain;
  for (int i = 1; module.hasattr(unique); ++i) unique = plain + "_" + std::to_string(i);
  module.register_attribute(unique, object.type(), object);
  const torch::jit::WithInsertPoint guard(position);
  return graph_->insertGetAttr(graph_->inputs().at(0), unique);
}

void Lowering::record(const Node* node, const std::string& kernel) {
  const auto place = records_.find(names_of(node).name);
  if (place != records_.end()) report_.nodes[place->second].kernel = kernel;
}

void Lowering::record_refusals() {
  for (const Node* node : all_nodes(graph_->block())) {
    const auto refusal = refusals_.find(node);
    if (refusal != refusals_.end()) {
      record(node, "Q/DQ: " + refusal->second);
      continue;
    }
    const bool dequantized = std::any_of(node->inputs().begin(), node->inputs().end(),
                                         [&](const Value* input) { return codes_of(input) != nullptr; });
    const auto place = records_.find(names_of(node).name);
    if (dequantized && place != records_.end() && report_.nodes[place->second].kernel.empty()) {
      record(node, "Q/DQ: the engine has no integer kernel for this operator");
    }
  }
}

void Lowering::destroy(Node* node) {
  for (const Value* output : node->outputs()) params_.erase(output);
  refusals_.erase(node);
  node->destroy();
}

void Lowering::remove_dead_code() {
  torch::jit::EliminateDeadCode(graph_);
  // A later node could get the address of a removed one.
  std::unordered_map<const Value*, CodeParams> live;
  std::unordered_map<const Node*, std::string> refusals;
  for (const Node* node : all_nodes(graph_->block())) {
    for (const Value* output : node->outputs()) {
      const auto place = params_.find(output);
      if (place != params_.end()) live.insert(*place);
    }
    const auto refusal = refusals_.find(node);
    if (refusal != refusals_.end()) refusals.insert(*refusal);
  }
  params_ = std::move(live);
  refusals_ = std::move(refusals);
}

c10::IValue call_operator(const std::string& name, std::vector<c10::IValue> arguments, const std::string& overload) {
  const auto handle = c10::Dispatcher::singleton().findSchema({name, overload});
  if (!handle) {
    throw Error(ErrorCode::kBackendUnavailable, "the operator " + name + " is not registered", "",
                "load libtsquant_ops.so, or use another engine");
  }
  handle->callBoxed(&arguments);
  return arguments.at(0);
}

}  // namespace tsquant

#include "lowering/engines/lowering_context.h"

#include <ATen/core/dispatch/Dispatcher.h>

#include <cctype>

#include "graph/dead_code.h"
#include "graph/names.h"
#include "graph/node_lists.h"
#include "graph/params.h"
#include "tsquant/error.h"

namespace tsquant {

using torch::jit::Node;
using torch::jit::Value;

LoweringContext::LoweringContext(Model& model, const Engine& engine, const ReferenceRun& reference,
                                 const KeptValues& kept, Report& report)
    : model_(model),
      graph_(model.graph()),
      engine_(engine),
      reference_(reference),
      kept_(kept),
      report_(report),
      numbers_(number_values(*graph_)) {
  for (size_t i = 0; i < report_.nodes.size(); ++i) records_.emplace(report_.nodes[i].name, i);
  for (const Node* node : nodes_of_kind(graph_->block(), {"aten::quantize_per_tensor"})) {
    if (!param_of(model_, node->input(0))) declare_codes(node);  // else a weight that was not folded
  }
}

void LoweringContext::declare_codes(const Node* quantizer) {
  if (const auto params = quantizer_params(*this, quantizer)) params_[quantizer->output()] = *params;
}

Value* LoweringContext::codes_of(const Value* value) const {
  const Node* node = value->node();
  if (node->kind() != c10::Symbol::fromQualString("aten::dequantize")) return nullptr;
  auto* codes = const_cast<Value*>(node->input(0));
  return params_.count(codes) ? codes : nullptr;
}

void LoweringContext::stands_for(const Value* value, const Value* original) {
  lowered_.insert(value);
  renames(value, original);
}

void LoweringContext::renames(const Value* value, const Value* original) {
  if (const auto number = original_of(original)) numbers_[value] = *number;
}

c10::optional<size_t> LoweringContext::original_of(const Value* value) const {
  const auto number = numbers_.find(value);
  return number == numbers_.end() ? c10::nullopt : c10::optional<size_t>(number->second);
}

int64_t LoweringContext::rank_of(const Value* value) const {
  const auto number = original_of(value);
  if (!number || !reference_.sizes[*number]) return -1;
  return static_cast<int64_t>(reference_.sizes[*number]->size());
}

bool LoweringContext::may_lower(const Node* node, const Value* result) {
  const auto number = original_of(result);
  const auto kept = number ? kept_.find(*number) : kept_.end();
  if (kept == kept_.end()) return true;
  refuse(node, kept->second);
  return false;
}

Value* LoweringContext::insert(Node* position, const std::string& kind, const std::vector<Value*>& inputs,
                               const Node* named) {
  Node* node = graph_->create(c10::Symbol::fromQualString(kind), inputs, 1);
  node->output()->setType(c10::TensorType::get());
  if (named != nullptr) {
    copy_names(named, node);
    node->setSourceRange(named->sourceRange());
  }
  node->insertBefore(position);
  return node->output();
}

Value* LoweringContext::constant(Node* position, const c10::IValue& value) {
  const torch::jit::WithInsertPoint guard(position);
  return graph_->insertConstant(value);
}

Value* LoweringContext::attribute(Node* position, const std::string& name, const c10::IValue& object) {
  std::string plain = "packed_";
  for (const char c : name) plain += std::isalnum(static_cast<unsigned char>(c)) ? c : '_';
  auto& module = model_.module();
  std::string unique = plain;
  for (int i = 1; module.hasattr(unique); ++i) unique = plain + "_" + std::to_string(i);
  module.register_attribute(unique, object.type(), object);
  const torch::jit::WithInsertPoint guard(position);
  return graph_->insertGetAttr(graph_->inputs().at(0), unique);
}

void LoweringContext::record(const Node* node, const std::string& kernel) {
  const auto place = records_.find(names_of(node).name);
  if (place != records_.end()) report_.nodes[place->second].kernel = kernel;
}

void LoweringContext::record_refusals() {
  for (const Node* node : all_nodes(graph_->block())) {
    const auto refusal = refusals_.find(node);
    if (refusal != refusals_.end()) {
      record(node, "Q/DQ: " + refusal->second);
      continue;
    }
    const bool dequantized = std::any_of(node->inputs().begin(), node->inputs().end(), [&](const Value* input) {
      return is_dequantizer(input->node()) && holds_codes(input->node()->input(0));
    });
    const auto place = records_.find(names_of(node).name);
    if (dequantized && place != records_.end() && report_.nodes[place->second].kernel.empty()) {
      record(node, "Q/DQ: the engine has no integer kernel for this operator");
    }
  }
}

void LoweringContext::destroy(Node* node) {
  for (const Value* output : node->outputs()) {
    params_.erase(output);
    numbers_.erase(output);
    lowered_.erase(output);
    work_.erase(output);
  }
  refusals_.erase(node);
  node->destroy();
}

namespace {

template <class Map>
void keep(Map& map, const std::unordered_set<const void*>& live) {
  for (auto it = map.begin(); it != map.end();) it = live.count(it->first) ? std::next(it) : map.erase(it);
}

}  // namespace

void LoweringContext::remove_dead_code() {
  tsquant::remove_dead_code(graph_);
  // A later node could get the address of a removed one.
  std::unordered_set<const void*> live;
  for (const Value* input : graph_->inputs()) live.insert(input);
  for (const Node* node : all_nodes(graph_->block())) {
    live.insert(node);
    for (const Value* output : node->outputs()) live.insert(output);
    for (const auto* block : node->blocks()) {
      for (const Value* input : block->inputs()) live.insert(input);
    }
  }
  keep(params_, live);
  keep(numbers_, live);
  keep(work_, live);
  keep(refusals_, live);
  for (auto it = lowered_.begin(); it != lowered_.end();) it = live.count(*it) ? std::next(it) : lowered_.erase(it);
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

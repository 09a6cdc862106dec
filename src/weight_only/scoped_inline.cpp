#include "weight_only/scoped_inline.h"

#include <torch/csrc/jit/ir/scope.h>
#include <torch/csrc/jit/passes/inliner.h>

#include "graph/flatten_calls.h"
#include "graph/node_lists.h"
#include "tsquant/error.h"

namespace tsquant {

namespace {

using torch::jit::Block;
using torch::jit::Graph;
using torch::jit::Node;
using torch::jit::Value;

/// The dotted name of the module that a chain of GetAttr reads; none for other values.
c10::optional<std::string> module_path(const Value* value) {
  std::string path;
  const Value* self = value->owningGraph()->inputs().at(0);
  while (value != self) {
    const Node* node = value->node();
    if (node->kind() != c10::prim::GetAttr) return c10::nullopt;
    path = path.empty() ? node->s(c10::attr::name) : node->s(c10::attr::name) + "." + path;
    value = node->input();
  }
  return path;
}

/// The scope of what a call runs; none for calls that expand_calls replaces.
c10::optional<std::string> scope_of_call(const Node* node) {
  if (!torch::jit::tryToGraphFunction(const_cast<Node*>(node))) return c10::nullopt;
  if (node->kind() == c10::prim::CallFunction) return module_name_of(node);
  return node->kind() == c10::prim::CallMethod ? module_path(node->input(0)) : c10::nullopt;
}

void set_scopes(Node* first, const Node* end, const torch::jit::ScopePtr& scope) {
  for (Node* node = first; node != end; node = node->next()) {
    node->setScope(scope);
    for (Block* inner : node->blocks()) set_scopes(*inner->nodes().begin(), inner->return_node(), scope);
  }
}

void inline_scoped(Node* call, const std::string& path) {
  auto scope = c10::make_intrusive<torch::jit::Scope>();
  if (!path.empty()) scope = scope->push(c10::Symbol::scope(path));
  auto* callee = torch::jit::tryToGraphFunction(call);
  Node *before = call->prev(), *after = call->next();
  if (call->kind() == c10::prim::CallFunction) call->removeInput(0);
  torch::jit::inlineCallTo(call, callee, callee->graph().get());
  set_scopes(before->next(), after, scope);
}

bool inline_round(Graph& graph) {
  bool changed = false;
  for (Node* node : all_nodes(graph.block())) {
    const auto path = scope_of_call(node);
    if (path) inline_scoped(node, *path);
    changed = changed || path;
  }
  return changed;
}

}  // namespace

void inline_with_scopes(Graph& graph) {
  constexpr int kMaxDepth = 1000;
  const auto keep = [](const Node* call) { return scope_of_call(call).has_value(); };
  expand_calls(graph, keep);
  for (int depth = 0; inline_round(graph); ++depth) {
    if (depth == kMaxDepth) {
      throw Error(ErrorCode::kUnsupportedModel, "a method calls itself", "forward", "unroll the recursion");
    }
    expand_calls(graph, keep);
  }
}

std::string module_name_of(const Node* node) {
  const auto scope = const_cast<Node*>(node)->scope();  // scope() is not const in 1.13
  return !scope || scope->isBlank() || scope->isRoot() ? "" : scope->name().toUnqualString();
}

}  // namespace tsquant

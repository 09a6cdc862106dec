#include "graph/flatten_calls.h"

#include <fmt/format.h>
#include <torch/csrc/jit/passes/inliner.h>

#include <algorithm>

#include "graph/futures.h"
#include "graph/module_calls.h"
#include "graph/node_lists.h"
#include "graph/params.h"
#include "tsquant/error.h"

namespace tsquant {

namespace {

using torch::jit::Block;
using torch::jit::Graph;
using torch::jit::InlinedCallStack;
using torch::jit::InlinedCallStackPtr;
using torch::jit::Node;
using torch::jit::Value;

const c10::Symbol kContainerIndex = c10::Symbol::prim("ModuleContainerIndex");

InlinedCallStackPtr below(const InlinedCallStackPtr& outer, const c10::optional<InlinedCallStackPtr>& inner) {
  const auto callee = outer->callee() ? c10::optional<InlinedCallStackPtr>(below(*outer->callee(), inner)) : inner;
  if (!callee) return outer;
  return c10::make_intrusive<InlinedCallStack>(*callee, outer->function(), outer->source_range(),
                                               outer->module_instance());
}

/// Names come from call stacks, so what a call is replaced by goes on with the stack that the call had.
void prefix_callstacks(Block* block, Node* first, const Node* end, const InlinedCallStackPtr& stack) {
  for (Node* node = first; node != end; node = node->next()) {
    node->setCallStack(below(stack, node->callstack()));
    for (Block* inner : node->blocks()) {
      prefix_callstacks(inner, *inner->nodes().begin(), inner->return_node(), stack);
    }
  }
}

/// Runs `expand`, which puts other nodes in the place of `node`.
template <typename Expand>
void replace_keeping_stack(Node* node, const Expand& expand) {
  const auto stack = node->callstack();
  Node *before = node->prev(), *after = node->next();
  Block* block = node->owningBlock();
  expand();
  if (stack) prefix_callstacks(block, before->next(), after, *stack);
}

void inline_call(Node* call) {
  auto* callee = torch::jit::tryToGraphFunction(call);
  replace_keeping_stack(call, [&] {
    if (call->kind() == c10::prim::CallFunction) call->removeInput(0);
    torch::jit::inlineCallTo(call, callee, callee->graph().get());
  });
}

// %f : Future[Tensor] = prim::fork_0(%conv, %x)   ->   %y = prim::CallMethod[name="forward"](%conv, %x)
//
// Who waits for %f finds the tensor in it: erase_futures.
void inline_fork(Node* fork) {
  replace_keeping_stack(fork, [&] {
    torch::jit::WithInsertPoint guard(fork);
    const auto outputs = torch::jit::insertGraph(*fork->owningGraph(), *fork->g(c10::attr::Subgraph), fork->inputs());
    fork->output()->replaceAllUsesWith(outputs.at(0));
    fork->destroy();
  });
}

/// A container's module that a call wants, by its name.
struct Choice {
  std::vector<std::string> names;  ///< of the modules, in order
  bool by_name = false;            ///< ModuleDict: the key is a string
};

// Lists of names raise what the container raises when there is no such module, and know negative positions.
Value* insert_position(Graph& graph, const Choice& choice, Value* key) {
  if (choice.by_name) {
    c10::List<std::string> names;
    for (const auto& name : choice.names) names.push_back(name);
    return graph.insert(c10::aten::index, {graph.insertConstant(names), key});
  }
  c10::List<int64_t> positions;
  for (size_t i = 0; i < choice.names.size(); ++i) positions.push_back(static_cast<int64_t>(i));
  return graph.insert(c10::aten::__getitem__, {graph.insertConstant(positions), key});
}

/// The call on one of the modules.
Value* insert_call(Graph& graph, const Node* call, Value* container, const std::string& name) {
  const auto type = container->type()->expectRef<c10::ClassType>().getAttribute(name);
  Value* module = graph.insertGetAttr(container, name)->setType(type);
  Node* copy = graph.createClone(const_cast<Node*>(call), [](Value* value) { return value; });
  copy->replaceInput(0, module);
  return graph.insertNode(copy)->output();
}

Value* insert_choice(Graph& graph, const Node* call, Value* container, const Choice& choice, Value* position,
                     size_t index) {
  if (index + 1 == choice.names.size()) return insert_call(graph, call, container, choice.names[index]);
  Value* is_this = graph.insert(c10::aten::eq, {position, static_cast<int64_t>(index)});
  Node* branch = graph.insertNode(graph.create(c10::prim::If, {is_this}, 1));
  branch->output()->setType(call->output()->type());
  Block *here = branch->addBlock(), *later = branch->addBlock();
  {
    torch::jit::WithInsertPoint guard(here);
    here->registerOutput(insert_call(graph, call, container, choice.names[index]));
  }
  torch::jit::WithInsertPoint guard(later);
  later->registerOutput(insert_choice(graph, call, container, choice, position, index + 1));
  return branch->output();
}

// %m : Interface = prim::ModuleContainerIndex(%layers, %i)        %p = aten::__getitem__([0, 1], %i)
// %y = prim::CallMethod[name="forward"](%m, %x)              ->   %y = prim::If(aten::eq(%p, 0))
//                                                                   block0(): -> (CallMethod(%layers.0, %x))
//                                                                   block1(): -> (CallMethod(%layers.1, %x))
void choose_module(Node* call) {
  Node* index = call->input(0)->node();
  Value* container = index->input(0);
  const auto& type = container->type()->expectRef<c10::ClassType>();
  Choice choice;
  choice.by_name = index->input(1)->type()->kind() == c10::TypeKind::StringType;
  for (size_t i = 0; i < type.numAttributes(); ++i) {
    if (type.getAttribute(i)->kind() == c10::TypeKind::ClassType && type.getAttribute(i)->is_module()) {
      choice.names.push_back(type.getAttributeName(i));
    }
  }
  if (choice.names.empty()) return;
  replace_keeping_stack(call, [&] {
    Graph& graph = *call->owningGraph();
    torch::jit::WithInsertPoint guard(call);
    Value* position = insert_position(graph, choice, index->input(1));
    call->output()->replaceAllUsesWith(insert_choice(graph, call, container, choice, position, 0));
    call->destroy();
  });
  if (!index->hasUses()) index->destroy();
}

/// One round over a block; what it inserts is looked at in the next round. @return whether something was replaced
bool flatten_block(Block* block, const std::function<bool(const Node*)>& keep) {
  bool changed = false;
  for (auto it = block->nodes().begin(); it != block->nodes().end();) {
    Node* node = *it++;
    for (Block* inner : node->blocks()) changed = flatten_block(inner, keep) || changed;
    const bool call = node->kind() == c10::prim::CallMethod || node->kind() == c10::prim::CallFunction;
    if (call && keep && keep(node)) continue;
    if (call && torch::jit::tryToGraphFunction(node)) {
      inline_call(node);
    } else if (call && node->input(0)->node()->kind() == kContainerIndex) {
      choose_module(node);
    } else if (node->kind() == c10::prim::fork) {
      inline_fork(node);
    } else {
      continue;
    }
    changed = true;
  }
  return changed;
}

/// "forward (net.py:12)"
std::string place_of(const Node* node) {
  const auto where = node->sourceRange().file_line_col();
  if (!where) return "forward";
  return fmt::format("forward ({}:{})", std::get<0>(*where), std::get<1>(*where));
}

[[noreturn]] void refuse(const Node* node, const std::string& message, const std::string& advice) {
  throw Error(ErrorCode::kUnsupportedModel, message, place_of(node), advice);
}

void refuse_interface_call(const Node* call) {
  const auto& receiver = *call->input(0);
  const auto& interface = receiver.type()->expectRef<c10::InterfaceType>();
  const auto* node = receiver.node();
  const std::string attribute =
      node->kind() == c10::prim::GetAttr ? fmt::format(" (attribute \"{}\")", node->s(c10::attr::name)) : "";
  refuse(call,
         fmt::format("which module answers the call of \"{}\" through the interface {}{} is known at run time only",
                     call->s(c10::attr::name), interface.name()->name(), attribute),
         "assign the module before saving, not in forward, or call it by its own type");
}

void check_flat(const Graph& graph) {
  for (const Node* node : all_nodes(const_cast<Graph&>(graph).block())) {
    const auto kind = node->kind();
    if (kind == c10::prim::CallMethod && node->input(0)->type()->kind() == c10::TypeKind::InterfaceType &&
        node->input(0)->type()->is_module()) {
      refuse_interface_call(node);
    }
    if (kind == kContainerIndex && node->hasUses()) {
      refuse(node, "a module that is taken out of a container is used for something else than a call",
             "call its methods directly");
    }
    if (kind == c10::prim::rpc_async || kind == c10::prim::rpc_sync || kind == c10::prim::rpc_remote) {
      refuse(node, "forward calls another process", "quantize the models of the processes one by one");
    }
  }
}

}  // namespace

std::string receiver_path(const Graph& graph, const Node* call) {
  std::string path;
  const Value* object = call->input(0);
  for (; object->node()->kind() == c10::prim::GetAttr; object = object->node()->input()) {
    path = object->node()->s(c10::attr::name) + (path.empty() ? "" : "." + path);
  }
  return object == graph.inputs().at(0) ? path : "";
}

void expand_calls(Graph& graph, const std::function<bool(const Node*)>& keep) {
  constexpr int kMaxDepth = 1000;
  for (int depth = 0; flatten_block(graph.block(), keep); ++depth) {
    if (depth == kMaxDepth) {
      throw Error(ErrorCode::kUnsupportedModel, "a method calls itself", "forward", "unroll the recursion");
    }
  }
}

void flatten_calls(Model& model, const std::set<std::string>& kept_modules) {
  auto graph = model.graph();
  const auto is_kept = [&](const Node* node) {
    if (is_opaque_call(node)) return true;
    if (node->kind() != c10::prim::CallMethod || kept_modules.count(receiver_path(*graph, node)) == 0) return false;
    // Traces of several calls are forward, forward1, ...
    const std::string& method = node->s(c10::attr::name);
    if (method.rfind("forward", 0) == 0) return true;
    refuse(node, fmt::format("the method \"{}\" of a module that is kept apart is called", method),
           "let forward be the only method that is called from outside");
  };
  const auto nodes = all_nodes(graph->block());
  const bool keeps_some = !kept_modules.empty() || std::any_of(nodes.begin(), nodes.end(), is_opaque_call);
  if (!keeps_some) torch::jit::Inline(*graph);
  expand_calls(*graph, is_kept);
  check_flat(*graph);
  if (const Node* foreign = erase_futures(*graph)) {
    refuse(foreign, "forward waits for a future that no torch.jit.fork of this model made",
           "hand over the result instead of the future");
  }
}

}  // namespace tsquant

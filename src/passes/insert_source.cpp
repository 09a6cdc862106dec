#include "passes/insert_source.h"

#include <torch/csrc/jit/api/function_impl.h>
#include <torch/csrc/jit/passes/constant_propagation.h>
#include <torch/csrc/jit/passes/inliner.h>
#include <torch/csrc/jit/passes/lower_tuples.h>
#include <torch/csrc/jit/passes/peephole.h>
#include <torch/jit.h>

#include "graph/dead_code.h"
#include "graph/node_lists.h"

namespace tsquant {

namespace {

using torch::jit::Graph;
using torch::jit::Node;
using torch::jit::Value;

/// The function's graph without calls.
std::shared_ptr<Graph> inlined_graph(const std::string& source, const std::string& function) {
  const auto unit = torch::jit::compile(source);
  auto graph = torch::jit::toGraphFunction(unit->get_function(function)).graph()->copy();
  torch::jit::Inline(*graph);
  return graph;
}

void fill_in(Graph& graph, const std::vector<Value*>& arguments, const std::map<size_t, c10::IValue>& known) {
  torch::jit::WithInsertPoint guard(*graph.nodes().begin());
  for (size_t i = 0; i < arguments.size(); ++i) {
    const auto constant = known.find(i);
    if (constant != known.end()) {
      graph.inputs()[i]->replaceAllUsesWith(graph.insertConstant(constant->second));
    } else if (arguments[i]->type()->isSubtypeOf(*graph.inputs()[i]->type())) {
      // An optional argument that is always given is not compared with None.
      graph.inputs()[i]->setType(arguments[i]->type());
    }
  }
}

/// What is known about the arguments decides branches.
void simplify(std::shared_ptr<Graph>& graph) {
  constexpr int kMaxRounds = 8;
  bool changed = true;
  for (int round = 0; changed && round < kMaxRounds; ++round) {
    changed = torch::jit::ConstantPropagation(graph, /*ignore_custom_classes=*/true);
    changed |= torch::jit::PeepholeOptimize(graph, /*disable_shape_peepholes=*/true);
    remove_dead_code(graph);
  }
  torch::jit::LowerAllTuples(graph);
  remove_dead_code(graph);
}

std::vector<Node*> nodes_between(Node* first, const Node* end) {
  std::vector<Node*> nodes;
  for (Node* node = first; node != end; node = node->next()) {
    nodes.push_back(node);
    for (auto* block : node->blocks()) {
      const auto inner = all_nodes(block);
      nodes.insert(nodes.end(), inner.begin(), inner.end());
    }
  }
  return nodes;
}

}  // namespace

std::vector<Value*> insert_source(Node* before, const std::string& source, const std::string& function,
                                  const std::vector<Value*>& arguments, const std::map<size_t, c10::IValue>& known,
                                  const std::function<void(const std::vector<Node*>&)>& give_names) {
  auto piece = inlined_graph(source, function);
  fill_in(*piece, arguments, known);
  simplify(piece);
  Node* last = before->prev();
  std::vector<Value*> results;
  {
    torch::jit::WithInsertPoint guard(before);
    results = torch::jit::insertGraph(*before->owningGraph(), *piece, arguments);
  }
  const auto added = nodes_between(last->next(), before);
  for (Node* node : added) node->copyMetadata(before);
  give_names(added);
  return results;
}

void replace_with_source(Node* node, const std::string& source, const std::string& function,
                         const std::vector<Value*>& arguments, const std::map<size_t, c10::IValue>& known,
                         const std::function<void(const std::vector<Node*>&)>& give_names) {
  const auto results = insert_source(node, source, function, arguments, known, give_names);
  for (size_t i = 0; i < results.size(); ++i) {
    results[i]->copyMetadata(node->output(i));
    node->output(i)->replaceAllUsesWith(results[i]);
  }
  node->destroy();
}

}  // namespace tsquant

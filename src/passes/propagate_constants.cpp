#include <torch/csrc/jit/ir/constants.h>
#include <torch/csrc/jit/passes/constant_propagation.h>
#include <torch/csrc/jit/passes/loop_unrolling.h>
#include <torch/csrc/jit/passes/lower_tuples.h>
#include <torch/csrc/jit/passes/peephole.h>

#include <algorithm>
#include <unordered_set>

#include "graph/dead_code.h"
#include "graph/node_lists.h"
#include "passes/foldable.h"
#include "passes/identity_tests.h"
#include "passes/passes.h"
#include "passes/remove_checks.h"

namespace tsquant {

namespace {

using torch::jit::Block;
using torch::jit::Node;

constexpr int64_t kMaxTripCount = 64;

/// A loop may be unrolled when it computes scalars a fixed, small number of times. A loop over tensors stays: its
/// operators would be there several times under one name, with one weight for all of them.
bool is_small_scalar_loop(Node* loop) {
  const auto trip_count = torch::jit::constant_as<int64_t>(loop->input(0));
  if (!trip_count || *trip_count > kMaxTripCount) return false;
  for (const Node* node : all_nodes(loop->blocks()[0])) {
    for (const auto* output : node->outputs()) {
      if (output->type()->isSubtypeOf(*c10::TensorType::get())) return false;
    }
  }
  return true;
}

bool unroll_scalar_loops(std::shared_ptr<torch::jit::Graph>& graph) {
  const auto loops = nodes_of_kind(graph->block(), {"prim::Loop"});
  const auto is_fixed = [](Node* loop) { return torch::jit::constant_as<int64_t>(loop->input(0)).has_value(); };
  // LibTorch unrolls all loops with a constant trip count or none.
  for (Node* loop : loops) {
    if (is_fixed(loop) && !is_small_scalar_loop(loop)) return false;
  }
  if (std::none_of(loops.begin(), loops.end(), is_fixed)) return false;
  return torch::jit::UnrollConstantLoops(graph);
}

/// LibTorch's peephole pass also merges nested aten::cat, a tensor rewrite that would change placement. An alias behind
/// every aten::cat hides it for the time of the pass.
bool peephole_without_merging(const std::shared_ptr<torch::jit::Graph>& graph) {
  std::unordered_set<Node*> barriers;
  for (Node* cat : nodes_of_kind(graph->block(), {"aten::cat"})) {
    Node* barrier = graph->create(c10::aten::alias, {cat->output()});
    barrier->insertAfter(cat);
    barrier->output()->setType(cat->output()->type());
    cat->output()->replaceAllUsesAfterNodeWith(barrier, barrier->output());
    barriers.insert(barrier);
  }
  const bool changed = torch::jit::PeepholeOptimize(graph, /*disable_shape_peepholes=*/true);
  for (Node* barrier : nodes_of_kind(graph->block(), {"aten::alias"})) {
    if (!barriers.count(barrier)) continue;
    barrier->output()->replaceAllUsesWith(barrier->input());
    barrier->destroy();
  }
  return changed;
}

bool compute_constants(std::shared_ptr<torch::jit::Graph>& graph) {
  if (!may_propagate(graph->block())) return false;
  return needs_alias_analysis(graph->block()) ? torch::jit::ConstantPropagation(graph, /*ignore_custom_classes=*/true)
                                              : torch::jit::ConstantPropagationImmutableTypes(graph);
}

/// Whether a round could change anything.
bool has_work(const torch::jit::Block* block) {
  const auto has_blocks = [](const Node* node) { return !node->blocks().empty(); };
  return std::any_of(block->nodes().begin(), block->nodes().end(), has_blocks) || may_propagate(block) ||
         may_simplify(block);
}

bool takes_tuple_apart(const Node* node) {
  return node->kind() == c10::prim::TupleUnpack || node->kind() == c10::prim::TupleIndex ||
         node->kind() == c10::prim::TupleSlice;
}

size_t count_nodes(const std::shared_ptr<torch::jit::Graph>& graph) { return all_nodes(graph->block()).size(); }

}  // namespace

// Parameters are prim::GetAttr, so nothing that depends on a weight is computed here.
bool propagate_constants(RewriteContext& ctx) {
  constexpr int kMaxRounds = 16;
  auto graph = ctx.model.graph();
  bool changed = false;
  for (int round = 0; round < kMaxRounds; ++round) {
    changed |= inline_constant_branches(graph->block());
    changed |= fold_constant_lists(*graph);
    if (!has_work(graph->block())) break;
    const size_t before = count_nodes(graph);
    bool step = compute_constants(graph);
    if (may_simplify(graph->block())) step |= peephole_without_merging(graph);
    step |= unroll_scalar_loops(graph);
    step |= remove_internal_checks(*graph);
    step |= fold_identity_tests(*graph);
    if (any_node(graph->block(), takes_tuple_apart)) torch::jit::LowerSimpleTuples(graph);
    remove_dead_code(graph);
    step |= count_nodes(graph) != before;
    changed |= step;
    if (!step) break;
  }
  return changed;
}

}  // namespace tsquant

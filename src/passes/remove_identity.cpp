#include "graph/node_lists.h"
#include "graph/params.h"
#include "passes/passes.h"

namespace tsquant {

namespace {

using torch::jit::Node;

/// Dropout returns its argument outside of training, and with probability 0.
bool is_idle_dropout(const Model& model, const Node* node) {
  const auto p = constant_of(model, node->input(1));
  const auto train = constant_of(model, node->input(2));
  return (train && train->isBool() && !train->toBool()) || (p && p->isDouble() && p->toDouble() == 0.0);
}

}  // namespace

// %y = aten::dropout(%x, %p, %false)   ->   %x
//
// Only operators that return their argument itself: replacing them is right even when the result is written in place.
bool remove_identity(RewriteContext& ctx) {
  auto graph = ctx.model.graph();
  auto idle = nodes_of_kind(graph->block(), {"aten::detach", "aten::detach_", "aten::alias", "aten::lift_fresh"});
  const ParamScope scope(ctx.model);
  for (Node* node : nodes_of_kind(graph->block(),
                                  {"aten::dropout", "aten::dropout_", "aten::feature_dropout", "aten::feature_dropout_",
                                   "aten::alpha_dropout", "aten::alpha_dropout_", "aten::feature_alpha_dropout"})) {
    if (is_idle_dropout(ctx.model, node)) idle.push_back(node);
  }
  for (Node* node : idle) {
    ctx.at(node);
    node->output()->replaceAllUsesWith(node->input(0));
    node->destroy();
  }
  return !idle.empty();
}

}  // namespace tsquant

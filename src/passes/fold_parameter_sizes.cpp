#include <ATen/ATen.h>

#include <utility>
#include <vector>

#include "graph/node_lists.h"
#include "graph/params.h"
#include "passes/passes.h"

namespace tsquant {

namespace {

using torch::jit::Node;

/// What the operator gives for a tensor of these sizes; None when that is not known.
c10::IValue answer(const Model& model, const Node* node, const at::Tensor& tensor) {
  if (node->kind() == c10::aten::dim) return tensor.dim();
  if (node->inputs().size() == 1) return tensor.sizes().vec();
  const auto axis = constant_of(model, node->input(1));
  if (!axis || !axis->isInt() || axis->toInt() < -tensor.dim() || axis->toInt() >= tensor.dim()) return {};
  return tensor.size(axis->toInt());
}

}  // namespace

// %n = aten::size(%weight, 1)   ->   %n = prim::Constant[value=64]()
//
// Linear layers with the weight of GPT-2's Conv1D ask it for the width of their result. A compressed weight would have
// to stay in float to answer.
bool fold_parameter_sizes(RewriteContext& ctx) {
  const auto graph = ctx.model.graph();
  const auto nodes = nodes_of_kind(graph->block(), {"aten::size", "aten::dim"});
  if (nodes.empty()) return false;
  std::vector<std::pair<Node*, c10::IValue>> known;
  const ParamIndex parameters(ctx.model);
  for (Node* node : nodes) {
    const auto parameter = parameters.find(node->input(0));
    if (!parameter || !parameter->tensor.defined()) continue;
    c10::IValue value = answer(ctx.model, node, parameter->tensor);
    if (!value.isNone()) known.emplace_back(node, std::move(value));
  }
  for (const auto& [node, value] : known) {
    ctx.at(node);
    const torch::jit::WithInsertPoint guard(node);
    node->output()->replaceAllUsesWith(graph->insertConstant(value));
    node->destroy();
  }
  return !known.empty();
}

}  // namespace tsquant

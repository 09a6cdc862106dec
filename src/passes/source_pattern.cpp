#include "passes/source_pattern.h"

#include <torch/csrc/jit/api/function_impl.h>
#include <torch/csrc/jit/ir/constants.h>
#include <torch/csrc/jit/ir/subgraph_matcher.h>
#include <torch/csrc/jit/passes/inliner.h>
#include <torch/jit.h>

#include <algorithm>

#include "graph/dead_code.h"
#include "graph/node_lists.h"

namespace tsquant {

using torch::jit::Node;
using torch::jit::Value;

SourcePattern::SourcePattern(const std::string& source, const std::string& function) {
  const auto unit = torch::jit::compile(source);
  graph_ = torch::jit::toGraphFunction(unit->get_function(function)).graph()->copy();
  torch::jit::Inline(*graph_);
  remove_dead_code(graph_);
  arguments_ = graph_->inputs().size();
  // A constant may be one node in a graph and many in another: each place where one is read becomes an input.
  for (Node* node : all_nodes(graph_->block())) {
    if (node->kind() == c10::prim::Constant) continue;
    for (size_t i = 0; i < node->inputs().size(); ++i) {
      const auto constant = torch::jit::toIValue(node->input(i));
      if (!constant) continue;
      Value* place = graph_->addInput();
      place->setType(node->input(i)->type());
      node->replaceInput(i, place);
      constants_.emplace(place, *constant);
    }
  }
  remove_dead_code(graph_);
}

std::vector<SourcePattern::Match> SourcePattern::find(torch::jit::Graph& graph) const {
  std::vector<Match> found;
  for (const auto& match : torch::jit::findPatternMatches(*graph_, graph)) {
    const bool same = std::all_of(constants_.begin(), constants_.end(), [&](const auto& constant) {
      const auto value = torch::jit::toIValue(match.values_map.at(constant.first));
      return value && *value == constant.second;
    });
    if (!same) continue;
    Match result{match.values_map.at(graph_->outputs().at(0))->node(), {}};
    for (size_t i = 0; i < arguments_; ++i) result.arguments.push_back(match.values_map.at(graph_->inputs().at(i)));
    found.push_back(std::move(result));
  }
  std::sort(found.begin(), found.end(),
            [](const Match& a, const Match& b) { return a.last != b.last && a.last->isBefore(b.last); });
  return found;
}

}  // namespace tsquant

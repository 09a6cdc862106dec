#include "tsquant/graph_view.h"

#include <algorithm>

#include "graph/tensor_values.h"
#include "graph/view_builder.h"

namespace tsquant {

GraphView::GraphView(const Model& model, const ShapeTable& shapes) : model_(&model) {
  GraphViewBuilder(*this, shapes).build();
}

const ViewNode* GraphView::find(const std::string& name) const {
  const auto place = by_name_.find(name);
  return place == by_name_.end() ? nullptr : &nodes_[place->second];
}

const ViewNode* GraphView::producer(const torch::jit::Value* value) const {
  const auto place = by_value_.find(see_through(const_cast<torch::jit::Value*>(value)));
  return place == by_value_.end() ? nullptr : &nodes_[place->second];
}

const ViewEdge* GraphView::input_edge(const ViewNode& node, int64_t port) const {
  if (port < 0 || port >= static_cast<int64_t>(node.in_edges.size())) return nullptr;
  return &edges_[node.in_edges[port]];
}

namespace {

/// Levenshtein distance with two rows.
size_t edit_distance(const std::string& a, const std::string& b) {
  std::vector<size_t> previous(b.size() + 1), current(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) previous[j] = j;
  for (size_t i = 0; i < a.size(); ++i) {
    current[0] = i + 1;
    for (size_t j = 0; j < b.size(); ++j) {
      current[j + 1] = std::min({previous[j + 1] + 1, current[j] + 1, previous[j] + (a[i] == b[j] ? 0 : 1)});
    }
    std::swap(previous, current);
  }
  return previous.back();
}

}  // namespace

std::vector<std::string> GraphView::nearest_names(const std::string& name, size_t count) const {
  std::vector<std::pair<size_t, std::string>> ranked;
  for (const ViewNode& node : nodes_) {
    if (node.kind != NodeKind::kOperator) continue;
    ranked.emplace_back(edit_distance(name, node.name), node.name);
    if (node.fx_name != node.name) ranked.emplace_back(edit_distance(name, node.fx_name), node.fx_name);
  }
  const size_t kept = std::min(count, ranked.size());
  std::partial_sort(ranked.begin(), ranked.begin() + static_cast<int64_t>(kept), ranked.end());
  std::vector<std::string> names;
  for (size_t i = 0; i < kept; ++i) names.push_back(ranked[i].second);
  return names;
}

}  // namespace tsquant

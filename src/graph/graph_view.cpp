#include "tsquant/graph_view.h"

#include "base/nearest.h"
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

std::vector<std::string> GraphView::nearest_names(const std::string& name, size_t count) const {
  std::vector<std::string> names;
  for (const ViewNode& node : nodes_) {
    if (node.kind != NodeKind::kOperator) continue;
    names.push_back(node.name);
    names.push_back(node.fx_name);
  }
  return nearest(name, names, count);
}

}  // namespace tsquant

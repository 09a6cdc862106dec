#include "quantizers/pt2e/annotation_table.h"

#include <algorithm>

namespace tsquant::pt2e {

bool AnnotationTable::any_annotated(const std::vector<int64_t>& nodes) const {
  return std::any_of(nodes.begin(), nodes.end(), [&](int64_t node) { return nodes_.at(node).annotated; });
}

void AnnotationTable::quantize_input(int64_t node, int64_t producer, const c10::optional<Spec>& spec) {
  if (!spec) return;
  for (const int64_t id : view_.node(node).in_edges) {
    const ViewEdge& edge = view_.edge(id);
    if (edge.from != producer) continue;
    if (!edge.value->type()->isSubtypeOf(*c10::TensorType::get())) return;
    auto& inputs = nodes_.at(node).inputs;
    const auto same = std::find_if(inputs.begin(), inputs.end(), [&](const auto& it) { return it.first == producer; });
    if (same != inputs.end()) {
      same->second = *spec;
    } else {
      inputs.emplace_back(producer, *spec);
    }
    return;
  }
}

void AnnotationTable::quantize_port(int64_t node, int64_t port, const c10::optional<Spec>& spec) {
  const int64_t producer = producer_of(view_, node, port);
  if (producer >= 0) quantize_input(node, producer, spec);
}

void AnnotationTable::mark(const std::vector<int64_t>& nodes) {
  for (const int64_t node : nodes) nodes_.at(node).annotated = true;
}

NodeIds users_of(const GraphView& view, int64_t node) {
  NodeIds users;
  for (const int64_t edge : view.node(node).out_edges) users.push_back(view.edge(edge).to);
  std::sort(users.begin(), users.end());
  users.erase(std::unique(users.begin(), users.end()), users.end());
  return users;
}

int64_t producer_of(const GraphView& view, int64_t node, int64_t port) {
  const ViewEdge* edge = view.input_edge(view.node(node), port);
  return edge ? edge->from : -1;
}

NodeIds producers_of(const GraphView& view, int64_t node) {
  NodeIds producers;
  for (const int64_t edge : view.node(node).in_edges) {
    const int64_t from = view.edge(edge).from;
    if (std::find(producers.begin(), producers.end(), from) == producers.end()) producers.push_back(from);
  }
  return producers;
}

bool is_one_of(const ViewNode& node, const std::vector<std::string>& functions) {
  return node.kind == NodeKind::kOperator &&
         std::find(functions.begin(), functions.end(), node.type) != functions.end();
}

}  // namespace tsquant::pt2e

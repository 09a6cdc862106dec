#include "quantizers/openvino/inference_graph.h"

#include <algorithm>
#include <functional>
#include <queue>
#include <string>

namespace tsquant::openvino {

namespace {

/// Nodes reachable from the inputs and from embeddings that NNCF counts as inputs.
std::vector<bool> reachable(const PlacementGraph& graph) {
  std::vector<bool> seen(graph.nodes.size(), false);
  std::vector<int> stack;
  for (size_t i = 0; i < graph.nodes.size(); ++i) {
    const auto& node = graph.nodes[i];
    const bool embedding = node.kind == PlacementKind::kOperator &&
                           metatype_row(node.metatype).default_trait == QuantizationTrait::kOutputQuantizationAsWeights;
    if (node.kind == PlacementKind::kInput || embedding) stack.push_back(static_cast<int>(i));
  }
  while (!stack.empty()) {
    const int id = stack.back();
    stack.pop_back();
    if (seen[id]) continue;
    seen[id] = true;
    for (int edge : graph.out_edges(id)) stack.push_back(graph.edges[edge].to);
  }
  return seen;
}

bool can_bypass(const InferenceGraph& graph, int id) {
  static const MetatypeSet kBypassed{"Dropout", "Noop"};
  if (!kBypassed.has(graph.node(id).metatype) || graph.in_edges[id].size() != 1) return false;
  const PlacementEdge& in = graph.full->edges[graph.in_edges[id].front()];
  for (int id_out : graph.out_edges[id]) {
    const PlacementEdge& out = graph.full->edges[id_out];
    if (out.integer != in.integer) return false;
    if (in.shape && out.shape && *in.shape != *out.shape) return false;
  }
  return true;
}

/// Consumers of no-op nodes read from the node before. Among the edges that leave a node, those that it got from
/// no-ops come last, in the order of the no-ops.
void bypass_noops(InferenceGraph& graph) {
  bool any = false;
  for (size_t i = 0; i < graph.size(); ++i) {
    const int id = static_cast<int>(i);
    if (!graph.present[i] || graph.node(id).kind != PlacementKind::kOperator || !can_bypass(graph, id)) continue;
    const int producer = graph.edges[graph.in_edges[id].front()].from;
    for (int out : graph.out_edges[id]) graph.edges[out].from = producer;
    graph.present[i] = false;
    any = true;
  }
  if (!any) return;
  const auto row = [&](int edge, int end) { return graph.present[graph.edges[edge].to] ? end : -1; };
  graph.out_edges =
      IdTable(graph.size(), graph.out_edges.items(), [&](int edge) { return row(edge, graph.edges[edge].from); });
  graph.in_edges =
      IdTable(graph.size(), graph.in_edges.items(), [&](int edge) { return row(edge, graph.edges[edge].to); });
}

std::vector<int> lexicographic_order(const InferenceGraph& graph) {
  const auto ranks = textual_ranks(static_cast<int>(graph.size()));
  std::vector<int> missing(graph.size());
  using Entry = std::pair<int, int>;  // rank, id
  std::priority_queue<Entry, std::vector<Entry>, std::greater<Entry>> ready;
  for (size_t i = 0; i < graph.size(); ++i) {
    missing[i] = static_cast<int>(graph.in_edges[i].size());
    if (graph.present[i] && missing[i] == 0) ready.emplace(ranks[i], static_cast<int>(i));
  }
  std::vector<int> order;
  while (!ready.empty()) {
    const int id = ready.top().second;
    ready.pop();
    order.push_back(id);
    for (int edge : graph.out_edges[id]) {
      const int to = graph.edges[edge].to;
      if (--missing[to] == 0) ready.emplace(ranks[to], to);
    }
  }
  return order;
}

}  // namespace

InferenceGraph make_inference_graph(const PlacementGraph& graph) {
  InferenceGraph result;
  result.full = &graph;
  result.present = reachable(graph);
  result.edges.reserve(graph.edges.size());
  for (const auto& edge : graph.edges) result.edges.push_back({edge.from, edge.to, edge.input_port, edge.integer});
  const auto row = [&](int edge, int end) {
    return result.present[graph.edges[edge].from] && result.present[graph.edges[edge].to] ? end : -1;
  };
  const size_t nodes = graph.nodes.size(), edges = graph.edges.size();
  result.in_edges = IdTable(nodes, edges, [&](int edge) { return row(edge, graph.edges[edge].to); });
  result.out_edges = IdTable(nodes, edges, [&](int edge) { return row(edge, graph.edges[edge].from); });
  bypass_noops(result);
  result.in_edges.sort_rows([&](int a, int b) { return graph.edges[a].input_port < graph.edges[b].input_port; });
  result.order = lexicographic_order(result);
  return result;
}

std::vector<int> textual_ranks(int count) {
  std::vector<int> ranks(static_cast<size_t>(count));
  int next = 0;
  // Depth-first walk over the digits visits ids in textual order: 0, 1, 10, 100, ..., 11, ...
  std::vector<int64_t> stack;
  for (int64_t first = 9; first >= 0; --first) stack.push_back(first);
  while (!stack.empty()) {
    const int64_t id = stack.back();
    stack.pop_back();
    if (id >= count) continue;
    ranks[static_cast<size_t>(id)] = next++;
    if (id == 0) continue;
    for (int64_t digit = 9; digit >= 0; --digit) stack.push_back(id * 10 + digit);
  }
  return ranks;
}

}  // namespace tsquant::openvino

#include <algorithm>
#include <deque>
#include <unordered_map>

#include "quantizers/openvino/placement.h"

namespace tsquant::openvino {

namespace {

std::vector<int> producers(const InferenceGraph& graph, int node) {
  std::vector<int> nodes;
  for (int edge : graph.in_edges[node]) {
    const int from = graph.edges[edge].from;
    if (std::find(nodes.begin(), nodes.end(), from) == nodes.end()) nodes.push_back(from);
  }
  return nodes;
}

size_t consumer_count(const InferenceGraph& graph, int node) {
  std::vector<int> nodes;
  for (int edge : graph.out_edges[node]) nodes.push_back(graph.edges[edge].to);
  std::sort(nodes.begin(), nodes.end());
  return static_cast<size_t>(std::unique(nodes.begin(), nodes.end()) - nodes.begin());
}

/// A chain of single producers leads up to a convolution or matrix product.
bool follows_product(const InferenceGraph& graph, int node) {
  static const MetatypeSet kProducts = plain_convolution_metatypes() | matmul_metatypes();
  for (auto above = producers(graph, node); above.size() == 1; above = producers(graph, above.front())) {
    if (kProducts.has(graph.node(above.front()).metatype)) return true;
  }
  return false;
}

int64_t output_size(const InferenceGraph& graph, int node) {
  if (graph.out_edges[node].empty()) return 0;
  int64_t size = 1;
  const auto* shape = graph.full->edges[graph.out_edges[node].front()].shape;
  if (!shape) return 0;
  for (int64_t extent : *shape) size *= extent;
  return size;
}

/// The quantizer to drop in front of an addition of `a` and `b`, or -1. `a` has at least as many consumers.
int superfluous(const InferenceGraph& graph, int a, int b) {
  if (consumer_count(graph, a) > 1 && consumer_count(graph, b) == 1) return b;
  if (!follows_product(graph, a) || !follows_product(graph, b)) return -1;
  return output_size(graph, a) >= output_size(graph, b) ? a : b;
}

}  // namespace

void apply_transformer_pass(Setup& setup, const PlacementGraph& graph) {
  for (auto& point : setup.points) {
    if (point.kind != PointKind::kActivation) continue;
    for (int node : point.quantized_nodes) {
      const bool matmul = matmul_metatypes().has(graph.nodes[node].metatype);
      if (matmul && !has_constant_weight(graph, node)) {
        point.chosen.mode = QuantizationScheme::kSymmetric;
      }
    }
  }
}

void apply_spr_pass(Setup& setup, const InferenceGraph& graph) {
  static const int kAdd = metatype_index("PTAddMetatype");
  std::unordered_map<int, int> point_of;
  // NNCF's map also holds the weights, by the same name: in FX graphs it then drops a weight quantizer where the
  // operand is a convolution. Its OpenVINO graphs have a bias addition between and lose the activation's, as meant.
  for (const auto& point : setup.points) {
    if (point.kind == PointKind::kActivation && point.port < 0) point_of[point.node] = point.id;
  }
  std::vector<int> discarded;
  for (size_t i = 0; i < graph.size(); ++i) {
    const int node = static_cast<int>(i);
    if (!graph.present[i] || graph.node(node).metatype != kAdd) continue;
    auto inputs = producers(graph, node);
    const auto quantized = [&](int input) { return point_of.count(input) > 0; };
    if (inputs.size() != 2 || !std::all_of(inputs.begin(), inputs.end(), quantized)) continue;
    std::stable_sort(inputs.begin(), inputs.end(),
                     [&](int a, int b) { return consumer_count(graph, a) > consumer_count(graph, b); });
    const int dropped = superfluous(graph, inputs[0], inputs[1]);
    if (dropped >= 0) discarded.push_back(point_of[dropped]);
  }
  setup.discard(std::move(discarded));
}

std::vector<bool> half_range_nodes(const PlacementGraph& graph, const Setup& setup, OverflowFix fix) {
  std::vector<bool> half(graph.nodes.size(), false), weighted(graph.nodes.size(), false);
  if (fix == OverflowFix::kDisable) return half;
  const MetatypeSet& metatypes = fix == OverflowFix::kEnable ? overflow_fix_metatypes() : plain_convolution_metatypes();
  for (const auto& point : setup.points) {
    if (point.kind == PointKind::kWeight) weighted[point.node] = metatypes.has(graph.nodes[point.node].metatype);
  }
  if (fix == OverflowFix::kEnable) return weighted;
  // Breadth first from the inputs; the walk ends at convolutions, so operators behind them are not reached.
  std::vector<bool> seen(graph.nodes.size(), false);
  std::deque<int> queue;
  for (size_t i = 0; i < graph.nodes.size(); ++i) {
    if (graph.nodes[i].kind == PlacementKind::kInput) queue.push_back(static_cast<int>(i));
  }
  while (!queue.empty()) {
    const int node = queue.front();
    queue.pop_front();
    if (seen[node]) continue;
    seen[node] = true;
    if (weighted[node]) {
      half[node] = true;
      continue;
    }
    for (int edge : graph.out_edges(node)) queue.push_back(graph.edges[edge].to);
  }
  return half;
}

}  // namespace tsquant::openvino

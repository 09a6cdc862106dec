#pragma once

#include <vector>

#include "quantizers/openvino/placement_graph.h"

namespace tsquant::openvino {

/// One use of a tensor, without what only the full graph needs.
struct FlowEdge {
  int from = 0;
  int to = 0;
  int input_port = 0;
  bool integer = false;
};

/// The part of the graph that depends on the model's inputs, without no-op nodes (NNCF's inference graph).
/// Node and edge ids are those of the full graph; an edge of a removed no-op's consumer starts at the node before it.
struct InferenceGraph {
  const PlacementGraph* full = nullptr;
  std::vector<bool> present;    ///< by node id
  std::vector<FlowEdge> edges;  ///< by edge id of the full graph; only the ends may differ
  IdTable in_edges;             ///< by node id, ascending input port
  IdTable out_edges;
  /// Present nodes in topological order; among nodes that are ready the one with the smallest key goes first, where
  /// keys are compared as decimal text ("10" before "2"), as NNCF's node keys are.
  std::vector<int> order;

  size_t size() const { return present.size(); }
  const PlacementNode& node(int id) const { return full->nodes[id]; }
};

/// Removes constants with everything computed from them alone, and no-op nodes that change neither shape nor dtype.
InferenceGraph make_inference_graph(const PlacementGraph& graph);

/// Rank of each id 0..count-1 when ids are sorted as decimal text.
std::vector<int> textual_ranks(int count);

}  // namespace tsquant::openvino

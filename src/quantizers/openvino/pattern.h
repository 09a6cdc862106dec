#pragma once

#include <vector>

#include "quantizers/openvino/inference_graph.h"

namespace tsquant::openvino {

/// A small connected graph of metatypes to look for (NNCF's GraphPattern).
class Pattern {
 public:
  /// @return index of the new node
  int add(const MetatypeSet& metatypes);
  /// A node that any operator matches and that is not part of the result.
  int add_any();
  /// Part of the shape, but not of the result.
  int add_excluded(const MetatypeSet& metatypes);
  void connect(int from, int to) { edges_.push_back({from, to}); }
  Pattern& chain(const std::vector<int>& nodes);

  /// This pattern followed by `next`: the last node of this one feeds the first of `next`; when that is an "any" node,
  /// it takes the place of it.
  Pattern then(const Pattern& next) const;

  struct Node {
    MetatypeSet metatypes;
    bool any = false;
    bool excluded = false;
  };
  struct Edge {
    int from, to;
  };
  const std::vector<Node>& nodes() const { return nodes_; }
  const std::vector<Edge>& edges() const { return edges_; }
  /// Number of nodes that are not "any": longer patterns are tried first.
  int length() const;
  bool is_first(int node) const;  ///< no edge leads to it, at least one leaves it
  bool is_last(int node) const;   ///< at least one edge leads to it, none leaves it

 private:
  std::vector<Node> nodes_;
  std::vector<Edge> edges_;
};

/// All alternatives of `a` followed by all of `b`.
std::vector<Pattern> join(const std::vector<Pattern>& a, const std::vector<Pattern>& b);

/// Occurrences of the patterns, longest first; a node belongs to at most one. The subgraph must be induced and strict:
/// first nodes may have further producers, last nodes further consumers, the others no outside neighbours.
/// @return node ids of each occurrence, in topological order
std::vector<IdList> find_matches(const InferenceGraph& graph, const std::vector<Pattern>& patterns);

/// Operators that the device runs as one (nncf/torch/hardware/fused_patterns.py).
const std::vector<Pattern>& fused_patterns();

/// Parts of a model that stay in float (nncf/torch/quantization/ignored_patterns.py).
/// @param transformer model type TRANSFORMER
/// @param attention   the device ignores the output of multi-head attention (all but CPU_SPR)
std::vector<Pattern> ignored_patterns(bool transformer, bool attention);

}  // namespace tsquant::openvino

#include "quantizers/openvino/pattern.h"

#include <algorithm>
#include <map>

#include "tsquant/error.h"

namespace tsquant::openvino {

int Pattern::add(const MetatypeSet& metatypes) {
  nodes_.push_back({metatypes, false, false});
  return static_cast<int>(nodes_.size()) - 1;
}

int Pattern::add_any() {
  nodes_.push_back({MetatypeSet(), true, false});
  return static_cast<int>(nodes_.size()) - 1;
}

int Pattern::add_excluded(const MetatypeSet& metatypes) {
  nodes_.push_back({metatypes, false, true});
  return static_cast<int>(nodes_.size()) - 1;
}

Pattern& Pattern::chain(const std::vector<int>& nodes) {
  for (size_t i = 1; i < nodes.size(); ++i) connect(nodes[i - 1], nodes[i]);
  return *this;
}

int Pattern::length() const {
  return static_cast<int>(std::count_if(nodes_.begin(), nodes_.end(), [](const Node& node) { return !node.any; }));
}

bool Pattern::is_first(int node) const {
  const bool fed = std::any_of(edges_.begin(), edges_.end(), [&](const Edge& edge) { return edge.to == node; });
  const bool feeds = std::any_of(edges_.begin(), edges_.end(), [&](const Edge& edge) { return edge.from == node; });
  return !fed && feeds;
}

bool Pattern::is_last(int node) const {
  const bool fed = std::any_of(edges_.begin(), edges_.end(), [&](const Edge& edge) { return edge.to == node; });
  const bool feeds = std::any_of(edges_.begin(), edges_.end(), [&](const Edge& edge) { return edge.from == node; });
  return fed && !feeds;
}

Pattern Pattern::then(const Pattern& next) const {
  Pattern joined = *this;
  const int count = static_cast<int>(nodes_.size());
  int last = count - 1;
  for (int i = 0; i < count; ++i) {
    if (is_last(i)) last = i;
  }
  // Node 0 of every pattern is its start. An "any" start is replaced by `last`, any other start is fed by it.
  const bool replace = next.nodes_.front().any;
  const int shift = replace ? count - 1 : count;
  for (size_t i = replace ? 1 : 0; i < next.nodes_.size(); ++i) joined.nodes_.push_back(next.nodes_[i]);
  for (const Edge& edge : next.edges_) {
    joined.connect(replace && edge.from == 0 ? last : edge.from + shift, edge.to + shift);
  }
  if (!replace) joined.connect(last, count);
  return joined;
}

std::vector<Pattern> join(const std::vector<Pattern>& a, const std::vector<Pattern>& b) {
  std::vector<Pattern> joined;
  for (const auto& first : a) {
    for (const auto& second : b) joined.push_back(first.then(second));
  }
  return joined;
}

namespace {

/// Finds one occurrence of a pattern around a given graph node by depth-first assignment.
class Matcher {
 public:
  Matcher(const InferenceGraph& graph, const Pattern& pattern, const std::vector<bool>& taken)
      : graph_(graph), pattern_(pattern), taken_(taken), assigned_(pattern.nodes().size(), -1) {
    anchor_ = 0;
    while (pattern.nodes()[anchor_].any) ++anchor_;
    order_assignment();
  }

  int anchor() const { return anchor_; }

  /// The members of an occurrence around a node; empty when there is none.
  IdList match_at(int node) {
    IdList members;
    std::fill(assigned_.begin(), assigned_.end(), -1);
    if (!fits(anchor_, node)) return members;
    assigned_[anchor_] = node;
    if (!extend(1)) return members;
    for (size_t i = 0; i < assigned_.size(); ++i) {
      const auto& wanted = pattern_.nodes()[i];
      if (!wanted.any && !wanted.excluded) members.push_back(assigned_[i]);
    }
    return members;
  }

 private:
  /// Each pattern node after the anchor is adjacent to an earlier one.
  void order_assignment() {
    order_ = {anchor_};
    via_ = {{-1, false}};
    std::vector<bool> placed(pattern_.nodes().size(), false);
    placed[anchor_] = true;
    for (bool grew = true; grew;) {
      grew = false;
      for (const auto& edge : pattern_.edges()) {
        if (placed[edge.from] == placed[edge.to]) continue;
        const bool forward = placed[edge.from];
        order_.push_back(forward ? edge.to : edge.from);
        via_.push_back({forward ? edge.from : edge.to, forward});
        placed[order_.back()] = true;
        grew = true;
      }
    }
    if (order_.size() != pattern_.nodes().size()) throw Error(ErrorCode::kInternal, "pattern is not connected");
  }

  bool fits(int pattern_node, int node) const {
    const auto& wanted = pattern_.nodes()[pattern_node];
    if (wanted.any) return true;
    if (graph_.node(node).kind == PlacementKind::kConstant) return false;
    return wanted.metatypes.has(graph_.node(node).metatype);
  }

  bool extend(size_t depth) {
    if (depth == order_.size()) return is_induced() && is_strict() && is_free();
    const int wanted = order_[depth];
    const int base = assigned_[via_[depth].first];
    const bool forward = via_[depth].second;
    for (int edge : forward ? graph_.out_edges[base] : graph_.in_edges[base]) {
      const int node = forward ? graph_.edges[edge].to : graph_.edges[edge].from;
      if (std::find(assigned_.begin(), assigned_.end(), node) != assigned_.end() || !fits(wanted, node)) continue;
      assigned_[wanted] = node;
      if (extend(depth + 1)) return true;
      assigned_[wanted] = -1;
    }
    return false;
  }

  int graph_edges_between(int from, int to) const {
    const auto& in = graph_.in_edges[to];
    return static_cast<int>(
        std::count_if(in.begin(), in.end(), [&](int edge) { return graph_.edges[edge].from == from; }));
  }

  /// Exactly the pattern's edges run between the matched nodes, parallel ones counted.
  bool is_induced() const {
    for (size_t from = 0; from < assigned_.size(); ++from) {
      for (size_t to = 0; to < assigned_.size(); ++to) {
        const auto& edges = pattern_.edges();
        const auto wanted = std::count_if(edges.begin(), edges.end(), [&](const Pattern::Edge& edge) {
          return edge.from == static_cast<int>(from) && edge.to == static_cast<int>(to);
        });
        if (graph_edges_between(assigned_[from], assigned_[to]) != wanted) return false;
      }
    }
    return true;
  }

  bool inside(int node) const { return std::find(assigned_.begin(), assigned_.end(), node) != assigned_.end(); }

  bool is_strict() const {
    for (size_t i = 0; i < assigned_.size(); ++i) {
      const int pattern_node = static_cast<int>(i);
      if (pattern_.nodes()[i].any) continue;
      const bool first = pattern_.is_first(pattern_node), last = pattern_.is_last(pattern_node);
      const int node = assigned_[i];
      const auto& in = graph_.in_edges[node];
      const auto& out = graph_.out_edges[node];
      const bool more_in = std::any_of(in.begin(), in.end(), [&](int e) { return !inside(graph_.edges[e].from); });
      const bool more_out = std::any_of(out.begin(), out.end(), [&](int e) { return !inside(graph_.edges[e].to); });
      if (more_out && !last) return false;
      if (more_in && !first) return false;
    }
    return true;
  }

  bool is_free() const {
    for (size_t i = 0; i < assigned_.size(); ++i) {
      const auto& node = pattern_.nodes()[i];
      if (!node.any && !node.excluded && taken_[assigned_[i]]) return false;
    }
    return true;
  }

  const InferenceGraph& graph_;
  const Pattern& pattern_;
  const std::vector<bool>& taken_;
  std::vector<int> assigned_;
  int anchor_ = 0;
  std::vector<int> order_;
  std::vector<std::pair<int, bool>> via_;  ///< earlier pattern node, and whether the edge leads away from it
};

std::vector<int> nodes_in(const InferenceGraph& graph, const MetatypeSet& metatypes) {
  std::vector<int> nodes;
  for (size_t i = 0; i < graph.size(); ++i) {
    const int node = static_cast<int>(i);
    if (graph.present[i] && metatypes.has(graph.node(node).metatype)) nodes.push_back(node);
  }
  return nodes;
}

}  // namespace

std::vector<IdList> find_matches(const InferenceGraph& graph, const std::vector<Pattern>& patterns) {
  std::vector<const Pattern*> by_length;
  for (const auto& pattern : patterns) by_length.push_back(&pattern);
  std::stable_sort(by_length.begin(), by_length.end(),
                   [](const Pattern* a, const Pattern* b) { return a->length() > b->length(); });
  std::map<std::vector<bool>, std::vector<int>> candidates_of;  // many patterns start with the same metatypes
  std::vector<int> position(graph.size(), 0);
  for (size_t i = 0; i < graph.order.size(); ++i) position[graph.order[i]] = static_cast<int>(i);
  std::vector<bool> taken(graph.size(), false);
  std::vector<IdList> matches;
  for (const Pattern* pattern : by_length) {
    Matcher matcher(graph, *pattern, taken);
    const MetatypeSet& wanted = pattern->nodes()[matcher.anchor()].metatypes;
    auto& candidates = candidates_of[wanted.bits()];
    if (candidates.empty()) candidates = nodes_in(graph, wanted);
    for (int candidate : candidates) {
      if (taken[candidate] && !pattern->nodes()[matcher.anchor()].excluded) continue;
      auto members = matcher.match_at(candidate);
      if (members.empty()) continue;
      for (int node : members) taken[node] = true;
      std::sort(members.begin(), members.end(), [&](int a, int b) { return position[a] < position[b]; });
      matches.push_back(std::move(members));
    }
  }
  return matches;
}

}  // namespace tsquant::openvino

#pragma once

#include <c10/util/flat_hash_map.h>

#include <algorithm>
#include <functional>
#include <string>
#include <vector>

#include "tsquant/annotation.h"

namespace tsquant {

/// Where the points and groups of annotations are, by what annotate_node looks for. `update` reads what was appended
/// since the last call, and everything again when something was removed.
struct AnnotationIndex::Tables {
  ska::flat_hash_map<int64_t, size_t> group_of;  ///< point id -> position in the groups
  size_t groups = 0;                             ///< read so far
  int64_t next_id = 1;

  void update(const Annotations& annotations) {
    const auto& points = annotations.points;
    const bool removed = points.size() < next_.size() || annotations.unified_scale_groups.size() < groups;
    if (removed || (!next_.empty() && points[next_.size() - 1].id != last_id_)) *this = Tables();
    while (next_.size() < points.size()) add(points[next_.size()]);
    for (; groups < annotations.unified_scale_groups.size(); ++groups) {
      for (const int64_t id : annotations.unified_scale_groups[groups]) group_of.emplace(id, groups);
    }
  }

  /// The first point at a node for which `fits` holds; null when there is none.
  template <typename Fits>
  const QuantizationPoint* find_at(const std::string& node, const std::vector<QuantizationPoint>& points,
                                   const Fits& fits) const {
    const auto chain = chains_.find(std::hash<std::string>()(node));
    if (chain == chains_.end()) return nullptr;
    for (size_t at = chain->second.first; at != kEnd; at = next_[at]) {
      if (points[at].node == node && fits(points[at])) return &points[at];
    }
    return nullptr;
  }

  /// Position of the group that holds the point; the number of groups when there is none.
  size_t group_with(int64_t id, const std::vector<std::vector<int64_t>>& all) const {
    const auto known = group_of.find(id);
    if (known == group_of.end()) return all.size();
    const auto& members = all[known->second];
    // Roots come first and those that pass a quantizer on last, so this ends early.
    const bool there = !members.empty() &&
                       (members.front() == id || std::find(members.rbegin(), members.rend(), id) != members.rend());
    if (there) return known->second;
    const auto found = std::find_if(all.begin(), all.end(), [id](const auto& group) {
      return std::find(group.begin(), group.end(), id) != group.end();
    });
    return static_cast<size_t>(found - all.begin());
  }

 private:
  static constexpr size_t kEnd = static_cast<size_t>(-1);
  struct Chain {
    size_t first, last;
  };

  void add(const QuantizationPoint& point) {
    const size_t at = next_.size();
    const auto [chain, is_new] = chains_.emplace(std::hash<std::string>()(point.node), Chain{at, at});
    if (!is_new) {
      next_[chain->second.last] = at;
      chain->second.last = at;
    }
    next_.push_back(kEnd);
    next_id = std::max(next_id, point.id + 1);
    last_id_ = point.id;
  }

  ska::flat_hash_map<size_t, Chain> chains_;  ///< by hash of the node's name: positions in `points`
  std::vector<size_t> next_;                  ///< by position: the next one of its chain
  int64_t last_id_ = 0;
};

}  // namespace tsquant

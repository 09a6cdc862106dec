#pragma once

#include <algorithm>
#include <string>
#include <unordered_map>
#include <vector>

#include "tsquant/annotation.h"

namespace tsquant {

/// Where the points and groups of annotations are, by what annotate_node looks for. `update` reads what was appended
/// since the last call, and everything again when something was removed.
struct AnnotationIndex::Tables {
  std::unordered_map<std::string, std::vector<size_t>> at_node;  ///< positions in `points`
  std::unordered_map<int64_t, size_t> group_of;                  ///< point id -> position in the groups
  size_t points = 0, groups = 0;                                 ///< read so far
  int64_t next_id = 1;

  void update(const Annotations& annotations) {
    const bool removed = annotations.points.size() < points || annotations.unified_scale_groups.size() < groups;
    if (removed || (points > 0 && annotations.points[points - 1].id != last_id_)) *this = Tables();
    for (; points < annotations.points.size(); ++points) add(annotations.points[points]);
    for (; groups < annotations.unified_scale_groups.size(); ++groups) {
      for (const int64_t id : annotations.unified_scale_groups[groups]) group_of.emplace(id, groups);
    }
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
  void add(const QuantizationPoint& point) {
    at_node[point.node].push_back(points);
    next_id = std::max(next_id, point.id + 1);
    last_id_ = point.id;
  }

  int64_t last_id_ = 0;
};

}  // namespace tsquant

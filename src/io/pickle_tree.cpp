#include "io/pickle_tree.h"

#include <fmt/format.h>

#include <algorithm>

namespace tsquant {

namespace {

/// LibTorch frees containers by recursion; some hundred bytes of stack for each level.
constexpr uint32_t kDeepest = 2000;

/// Nodes below a node; 0 until it is known.
struct Extent {
  uint32_t depth = 0;
  uint64_t values = 0;
};

class NestingWalk {
 public:
  explicit NestingWalk(const PickleTree& tree)
      : tree_(tree), extents_(tree.nodes.size()), open_(tree.nodes.size(), false) {}

  /// Depth first without recursion; false when a node holds itself.
  bool visit(uint32_t start) {
    if (extents_[start].depth == 0) enter(start);
    while (!path_.empty()) {
      Step& step = path_.back();
      const auto& parts = tree_[step.node].parts;
      if (step.next == parts.size()) {
        leave();
        continue;
      }
      const uint32_t part = parts[step.next++];
      if (open_[part]) return false;
      if (extents_[part].depth == 0) enter(part);
    }
    return true;
  }

  const Extent& extent(uint32_t node) const { return extents_[node]; }

 private:
  struct Step {
    uint32_t node;
    size_t next;
  };

  void enter(uint32_t node) {
    open_[node] = true;
    path_.push_back({node, 0});
  }

  void leave() {
    const uint32_t node = path_.back().node;
    Extent total{1, 1};
    for (const uint32_t part : tree_[node].parts) {
      total.depth = std::max(total.depth, extents_[part].depth + 1);
      if (__builtin_add_overflow(total.values, extents_[part].values, &total.values)) total.values = UINT64_MAX;
    }
    extents_[node] = total;
    open_[node] = false;
    path_.pop_back();
  }

  const PickleTree& tree_;
  std::vector<Extent> extents_;
  std::vector<bool> open_;  ///< nodes on the path
  std::vector<Step> path_;
};

}  // namespace

std::string nesting_fault(const PickleTree& tree, uint64_t most_values) {
  NestingWalk walk(tree);
  // Also what the result does not hold is freed by recursion.
  for (uint32_t node = 0; node < tree.nodes.size(); ++node) {
    if (!walk.visit(node)) return "a list or dict holds itself";
    if (walk.extent(node).depth > kDeepest) return fmt::format("it is nested more than {} levels deep", kDeepest);
  }
  if (walk.extent(tree.root).values > most_values) {
    return fmt::format("shared containers make it more than {} values", most_values);
  }
  return "";
}

}  // namespace tsquant

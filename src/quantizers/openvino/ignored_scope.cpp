#include "quantizers/openvino/ignored_scope.h"

#include <fmt/format.h>

#include <algorithm>
#include <regex>
#include <set>

#include "quantizers/openvino/node_roles.h"
#include "tsquant/error.h"

namespace tsquant::openvino {

namespace {

class ScopeMatcher {
 public:
  ScopeMatcher(const GraphView& view, const IgnoredScope& scope)
      : view_(view), scope_(scope), ignored_(view.nodes().size(), false) {}

  std::vector<bool> run() {
    for (const auto& name : scope_.names) match_name(name);
    for (const auto& pattern : scope_.patterns) match_pattern(pattern);
    for (const auto& type : scope_.types) match_type(type);
    for (const auto& subgraph : scope_.subgraphs) match_subgraph(subgraph);
    return ignored_;
  }

 private:
  [[noreturn]] void refuse(const std::string& kind, const std::string& rule,
                           const std::vector<std::string>& nearest) const {
    const std::string closest = nearest.empty() ? "" : fmt::format("closest: {}", fmt::join(nearest, ", "));
    throw Error(ErrorCode::kInvalidArgument, fmt::format("the ignored scope's {} matches no node", kind), rule,
                closest);
  }

  void match_name(const std::string& name) {
    const ViewNode* node = view_.find(name);
    if (node) {
      ignored_[node->id] = true;
    } else if (scope_.validate) {
      refuse("name", name, view_.nearest_names(name));
    }
  }

  void match_pattern(const std::string& text) {
    std::regex pattern;
    try {
      pattern = std::regex(text);
    } catch (const std::regex_error& error) {
      throw Error(ErrorCode::kInvalidArgument, "the ignored scope's pattern is no regular expression", text,
                  error.what());
    }
    const auto matches = [&](const std::string& name) {
      return std::regex_search(name, pattern, std::regex_constants::match_continuous);
    };
    bool found = false;
    for (const auto& node : view_.nodes()) {
      if (!matches(node.name) && !matches(node.fx_name)) continue;
      ignored_[node.id] = found = true;
    }
    if (!found && scope_.validate) refuse("pattern", text, view_.nearest_names(text));
  }

  void match_type(const std::string& type) {
    const std::string bare = type.rfind("aten::", 0) == 0 ? type.substr(6) : type;
    bool found = false;
    std::set<std::string> present;
    for (const auto& node : view_.nodes()) {
      if (node.kind != NodeKind::kOperator) continue;
      present.insert(node.type);
      const std::string& metatype = placement_row(node).metatype;
      present.insert(metatype);
      if (node.type != bare && metatype != type && node.op->metatype != type) continue;
      ignored_[node.id] = found = true;
    }
    if (!found && scope_.validate) refuse("type", type, nearest(type, present));
  }

  /// Types that share a part with the one asked for, else all of them.
  static std::vector<std::string> nearest(const std::string& type, const std::set<std::string>& present) {
    std::vector<std::string> similar;
    const std::string stem = type.substr(0, std::min<size_t>(type.size(), 4));
    for (const auto& other : present) {
      if (other.find(stem) != std::string::npos) similar.push_back(other);
    }
    if (similar.empty()) similar.assign(present.begin(), present.end());
    similar.resize(std::min<size_t>(similar.size(), 5));
    return similar;
  }

  /// Nodes reachable from `start`, along the edges or against them.
  std::vector<bool> reach(int64_t start, bool forward) const {
    std::vector<bool> seen(view_.nodes().size(), false);
    std::vector<int64_t> stack = {start};
    while (!stack.empty()) {
      const int64_t id = stack.back();
      stack.pop_back();
      if (seen[id]) continue;
      seen[id] = true;
      const ViewNode& node = view_.node(id);
      for (int64_t edge : forward ? node.out_edges : node.in_edges) {
        stack.push_back(forward ? view_.edge(edge).to : view_.edge(edge).from);
      }
    }
    return seen;
  }

  const ViewNode* end_of(const std::string& name) const {
    const ViewNode* node = view_.find(name);
    if (!node && scope_.validate) refuse("sub-graph end", name, view_.nearest_names(name));
    return node;
  }

  /// In a graph without cycles a node lies on a path between two others when one reaches it and it reaches the other.
  void match_subgraph(const IgnoredScope::Subgraph& subgraph) {
    bool found = false;
    for (const auto& input : subgraph.inputs) {
      const ViewNode* from = end_of(input);
      if (!from) continue;
      const auto below = reach(from->id, true);
      for (const auto& output : subgraph.outputs) {
        const ViewNode* to = end_of(output);
        if (!to || !below[to->id]) continue;
        found = true;
        const auto above = reach(to->id, false);
        for (size_t i = 0; i < ignored_.size(); ++i) ignored_[i] = ignored_[i] || (below[i] && above[i]);
      }
    }
    if (found || !scope_.validate) return;
    refuse("sub-graph", fmt::format("{} -> {}", fmt::join(subgraph.inputs, ", "), fmt::join(subgraph.outputs, ", ")),
           {});
  }

  const GraphView& view_;
  const IgnoredScope& scope_;
  std::vector<bool> ignored_;
};

}  // namespace

std::vector<bool> match_ignored_scope(const GraphView& view, const IgnoredScope& scope) {
  return ScopeMatcher(view, scope).run();
}

}  // namespace tsquant::openvino

#include "quantizers/openvino/ignored_scope.h"

#include <fmt/format.h>

#include <algorithm>
#include <regex>
#include <set>

#include "base/nearest.h"
#include "quantizers/openvino/node_roles.h"
#include "tsquant/error.h"

namespace tsquant::openvino {

namespace {

class ScopeMatcher {
 public:
  ScopeMatcher(const GraphView& view, const IgnoredScope& scope, bool weights)
      : view_(view), scope_(scope), weights_(weights), ignored_(view.nodes().size(), false) {}

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

  /// Only operators can be left in float; a rule on a weight or an input would change nothing.
  [[noreturn]] void refuse_tensor(const ViewNode& node) const {
    std::vector<std::string> readers;
    for (int64_t edge : node.out_edges) readers.push_back(view_.node(view_.edge(edge).to).name);
    throw Error(ErrorCode::kInvalidArgument, "the ignored scope's name is a tensor, not an operator", node.name,
                readers.empty() ? "" : fmt::format("name an operator that reads it: {}", fmt::join(readers, ", ")));
  }

  void match_name(const std::string& name) {
    const ViewNode* node = view_.find(name);
    if (node) {
      const bool may_stay = node->kind == NodeKind::kOperator || (weights_ && node->kind == NodeKind::kParameter);
      if (!may_stay && scope_.validate) refuse_tensor(*node);
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

  /// A type is a function as the view spells it (`linear`), as the model's file does (`addmm`, `_convolution`), either
  /// with `aten::` before it, or a metatype of NNCF.
  void match_type(const std::string& type) {
    const std::string prefix = type.rfind("aten::", 0) == 0 ? "aten::" : "";
    const std::string bare = type.substr(prefix.size());
    bool found = false;
    for (const auto& node : view_.nodes()) {
      if (node.kind != NodeKind::kOperator || !is_called(node, bare, type)) continue;
      ignored_[node.id] = found = true;
    }
    if (!found && scope_.validate) refuse("type", type, nearest(type, present_types(prefix)));
  }

  /// @param function a function's name, @param metatype the same as the user gave it
  static bool is_called(const ViewNode& node, const std::string& function, const std::string& metatype) {
    const bool traced = is_traced_convolution(function) && node.type.rfind("conv", 0) == 0;
    return traced || node.type == function || alias_stem(node.fx_name) == function ||
           (node.node && node.node->kind().toUnqualString() == function) || placement_row(node).metatype == metatype ||
           node.op->metatype == metatype;
  }

  /// What rules on types may say for this model. @param prefix before functions
  std::vector<std::string> present_types(const std::string& prefix) const {
    std::set<std::string> types;
    for (const auto& node : view_.nodes()) {
      if (node.kind != NodeKind::kOperator) continue;
      types.insert(
          {prefix + node.type, prefix + alias_stem(node.fx_name), placement_row(node).metatype, node.op->metatype});
    }
    return {types.begin(), types.end()};
  }

  /// What tracing writes for every convolution, transposed or not; the view has it as conv1d, conv_transpose2d and so
  /// on.
  static bool is_traced_convolution(const std::string& type) { return type == "_convolution" || type == "convolution"; }

  /// `addmm` of `addmm_1`: aliases keep the function that a rewritten operator had in the file.
  static std::string alias_stem(const std::string& alias) {
    const size_t end = alias.find_last_not_of("0123456789");
    return end + 1 < alias.size() && alias[end] == '_' ? alias.substr(0, end) : alias;
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

  /// Refuses a sub-graph whose ends are given the wrong way round.
  void refuse_reversed(const IgnoredScope::Subgraph& subgraph) const {
    for (const auto& output : subgraph.outputs) {
      const auto below = reach(end_of(output)->id, true);
      for (const auto& input : subgraph.inputs) {
        if (!below[end_of(input)->id]) continue;
        throw Error(ErrorCode::kInvalidArgument,
                    fmt::format("the ignored scope's sub-graph is given in reverse: its output {} comes before its "
                                "input {}",
                                output, input),
                    fmt::format("{} -> {}", fmt::join(subgraph.inputs, ", "), fmt::join(subgraph.outputs, ", ")),
                    "exchange inputs and outputs");
      }
    }
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
    refuse_reversed(subgraph);
    refuse("sub-graph", fmt::format("{} -> {}", fmt::join(subgraph.inputs, ", "), fmt::join(subgraph.outputs, ", ")),
           {});
  }

  const GraphView& view_;
  const IgnoredScope& scope_;
  bool weights_;
  std::vector<bool> ignored_;
};

}  // namespace

std::vector<bool> match_ignored_scope(const GraphView& view, const IgnoredScope& scope, bool weights) {
  return ScopeMatcher(view, scope, weights).run();
}

}  // namespace tsquant::openvino

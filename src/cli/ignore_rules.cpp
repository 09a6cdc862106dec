#include "cli/ignore_rules.h"

#include <fmt/format.h>

#include <algorithm>

#include "quantizers/openvino/ignored_scope.h"

namespace tsquant::cli {

namespace {

/// The operators that a scope of this one rule leaves in float.
RuleMatches matches_of(const GraphView& view, const std::string& rule, IgnoredScope scope) {
  scope.validate = false;
  RuleMatches result{rule, {}};
  const auto ignored = openvino::match_ignored_scope(view, scope);
  for (const auto& node : view.nodes()) {
    if (node.kind == NodeKind::kOperator && ignored[node.id]) result.nodes.push_back(node.name);
  }
  return result;
}

}  // namespace

std::vector<RuleMatches> match_rules(const GraphView& view, const IgnoredScope& scope) {
  std::vector<RuleMatches> rules;
  const auto add = [&](const std::string& rule, const IgnoredScope& alone) {
    rules.push_back(matches_of(view, rule, alone));
  };
  for (const auto& name : scope.names) add("--ignore-name " + name, {{name}, {}, {}, {}});
  for (const auto& pattern : scope.patterns) add("--ignore-pattern " + pattern, {{}, {pattern}, {}, {}});
  for (const auto& type : scope.types) add("--ignore-type " + type, {{}, {}, {type}, {}});
  for (const auto& ends : scope.subgraphs) {
    add(fmt::format("--ignore-subgraph {}:{}", fmt::join(ends.inputs, ","), fmt::join(ends.outputs, ",")),
        {{}, {}, {}, {ends}});
  }
  return rules;
}

std::string rule_that_decides(const std::vector<RuleMatches>& rules, const std::string& node) {
  for (const auto& rule : rules) {
    if (std::find(rule.nodes.begin(), rule.nodes.end(), node) != rule.nodes.end()) return rule.rule;
  }
  return "";
}

}  // namespace tsquant::cli

#include "cli/ignore_rules.h"

#include <algorithm>
#include <regex>

#include "graph/op_table.h"

namespace tsquant::cli {

namespace {

template <typename Matches>
RuleMatches collect(const GraphView& view, const std::string& rule, Matches matches) {
  RuleMatches result{rule, {}};
  for (const auto& node : view.nodes()) {
    if (node.kind == NodeKind::kOperator && matches(node)) result.nodes.push_back(node.name);
  }
  return result;
}

}  // namespace

std::vector<RuleMatches> match_rules(const GraphView& view, const IgnoredScope& scope) {
  std::vector<RuleMatches> rules;
  for (const auto& name : scope.names) {
    rules.push_back(collect(view, "--ignore-name " + name,
                            [&](const ViewNode& node) { return node.name == name || node.fx_name == name; }));
  }
  for (const auto& pattern : scope.patterns) {
    const std::regex expression(pattern);
    rules.push_back(collect(view, "--ignore-pattern " + pattern, [&](const ViewNode& node) {
      const auto at_start = std::regex_constants::match_continuous;
      return std::regex_search(node.name, expression, at_start) ||
             std::regex_search(node.fx_name, expression, at_start);
    }));
  }
  for (const auto& type : scope.types) {
    rules.push_back(collect(view, "--ignore-type " + type, [&](const ViewNode& node) {
      return node.type == type || node.op->metatype == type || (node.node && node.node->kind().toQualString() == type);
    }));
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

#pragma once

#include <string>
#include <vector>

#include "tsquant/graph_view.h"
#include "tsquant/openvino_quantizer.h"

namespace tsquant::cli {

/// One ignore rule, written as its option, and the operators it names. For display only; the quantizer decides.
struct RuleMatches {
  std::string rule;
  std::vector<std::string> nodes;
};
std::vector<RuleMatches> match_rules(const GraphView& view, const IgnoredScope& scope);

/// The first rule that names this operator, "" when none does.
std::string rule_that_decides(const std::vector<RuleMatches>& rules, const std::string& node);

}  // namespace tsquant::cli

#include "quantizers/openvino/merge_rules.h"

#include <algorithm>

namespace tsquant::openvino {

namespace {

bool fits_branch(const QConfig& config, const QConfigList& branch, bool requantization) {
  if (contains(branch, config)) return true;
  if (!requantization) return false;
  return std::all_of(branch.begin(), branch.end(),
                     [&](const QConfig& other) { return is_valid_requantization(other, config); });
}

/// Sum over the branches of the position in the branch's list; smaller is better.
size_t votes_against(const QConfig& config, const std::vector<const QConfigList*>& branches) {
  size_t longest = 0, sum = 0;
  for (const auto* branch : branches) longest = std::max(longest, branch->size());
  for (const auto* branch : branches) {
    const auto found = std::find(branch->begin(), branch->end(), config);
    sum += found == branch->end() ? longest + 1 : static_cast<size_t>(found - branch->begin());
  }
  return sum;
}

QConfigList common_configs(const std::vector<const QConfigList*>& branches, bool requantization) {
  QConfigList common;
  for (const auto* branch : branches) {
    for (const auto& config : *branch) {
      const bool fits = std::all_of(branches.begin(), branches.end(), [&](const QConfigList* other) {
        return fits_branch(config, *other, requantization);
      });
      if (fits && !contains(common, config)) common.push_back(config);
    }
  }
  std::stable_sort(common.begin(), common.end(), [&](const QConfig& a, const QConfig& b) {
    const size_t votes_a = votes_against(a, branches), votes_b = votes_against(b, branches);
    return votes_a != votes_b ? votes_a < votes_b : preferred_over(a, b);
  });
  return common;
}

}  // namespace

MergeDecision decide_merge(QuantizerPropagationRule rule, const std::vector<const QConfigList*>& branches) {
  MergeDecision decision;
  decision.keep.assign(branches.size(), true);
  const QConfigList& first = *branches.front();
  switch (rule) {
    case QuantizerPropagationRule::kDoNotMergeBranches:
      return decision;
    case QuantizerPropagationRule::kMergeIfAllBranchesSame:
      for (const auto* branch : branches) {
        if (!same_multiset(first, *branch)) return decision;
      }
      decision.above = first;
      break;
    case QuantizerPropagationRule::kMergeWithPotentialRequantization:
      decision.above = common_configs(branches, true);
      break;
    case QuantizerPropagationRule::kMergeAllInOne:
      decision.above = common_configs(branches, false);
      break;
  }
  if (decision.above.empty()) return decision;
  decision.merge = true;
  const bool may_stay = rule == QuantizerPropagationRule::kMergeWithPotentialRequantization;
  for (size_t i = 0; i < branches.size(); ++i) {
    decision.keep[i] = may_stay && !same_multiset(*branches[i], decision.above);
  }
  return decision;
}

}  // namespace tsquant::openvino

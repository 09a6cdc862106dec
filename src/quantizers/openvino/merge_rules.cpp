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

/// Branches with equal lists.
struct Party {
  const QConfigList* list;
  size_t branches;
};

/// Thousands of operators may read one tensor, but few kinds of lists meet.
std::vector<Party> parties_of(const std::vector<const QConfigList*>& branches) {
  std::vector<Party> parties;
  for (const auto* branch : branches) {
    const auto same = std::find_if(parties.begin(), parties.end(), [branch](const Party& party) {
      return party.list == branch || *party.list == *branch;
    });
    if (same != parties.end()) {
      ++same->branches;
    } else {
      parties.push_back({branch, 1});
    }
  }
  return parties;
}

/// Sum over the branches of the position in the branch's list; smaller is better.
size_t votes_against(const QConfig& config, const std::vector<Party>& parties) {
  size_t longest = 0, sum = 0;
  for (const Party& party : parties) longest = std::max(longest, party.list->size());
  for (const Party& party : parties) {
    const auto found = std::find(party.list->begin(), party.list->end(), config);
    const size_t position = found == party.list->end() ? longest + 1 : static_cast<size_t>(found - party.list->begin());
    sum += position * party.branches;
  }
  return sum;
}

QConfigList common_configs(const std::vector<const QConfigList*>& branches, bool requantization) {
  const auto parties = parties_of(branches);
  QConfigList common;
  for (const Party& party : parties) {
    for (const auto& config : *party.list) {
      const bool fits = std::all_of(parties.begin(), parties.end(), [&](const Party& other) {
        return fits_branch(config, *other.list, requantization);
      });
      if (fits && !contains(common, config)) common.push_back(config);
    }
  }
  std::stable_sort(common.begin(), common.end(), [&](const QConfig& a, const QConfig& b) {
    const size_t votes_a = votes_against(a, parties), votes_b = votes_against(b, parties);
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

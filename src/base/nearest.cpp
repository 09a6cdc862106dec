#include "base/nearest.h"

#include <algorithm>
#include <utility>

namespace tsquant {

namespace {

/// Levenshtein distance with two rows.
size_t edit_distance(const std::string& a, const std::string& b) {
  std::vector<size_t> previous(b.size() + 1), current(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) previous[j] = j;
  for (size_t i = 0; i < a.size(); ++i) {
    current[0] = i + 1;
    for (size_t j = 0; j < b.size(); ++j) {
      current[j + 1] = std::min({previous[j + 1] + 1, current[j] + 1, previous[j] + (a[i] == b[j] ? 0 : 1)});
    }
    std::swap(previous, current);
  }
  return previous.back();
}

}  // namespace

std::vector<std::string> nearest(const std::string& name, const std::vector<std::string>& candidates, size_t count) {
  std::vector<std::pair<size_t, std::string>> ranked;
  for (const auto& candidate : candidates) ranked.emplace_back(edit_distance(name, candidate), candidate);
  std::sort(ranked.begin(), ranked.end());
  ranked.erase(std::unique(ranked.begin(), ranked.end()), ranked.end());
  std::vector<std::string> names;
  for (size_t i = 0; i < std::min(count, ranked.size()); ++i) names.push_back(ranked[i].second);
  return names;
}

std::string misspelt(const std::string& name, const std::vector<std::string>& candidates) {
  const auto found = nearest(name, candidates, 1);
  if (found.empty()) return "";
  const size_t distance = edit_distance(name, found.front());
  return distance == 1 || distance == 2 ? found.front() : "";
}

}  // namespace tsquant

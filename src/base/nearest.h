#pragma once

#include <string>
#include <vector>

namespace tsquant {

/// The candidates that look most like `name`, by Levenshtein distance, closest first; at most `count`, each once. What
/// error messages offer.
std::vector<std::string> nearest(const std::string& name, const std::vector<std::string>& candidates, size_t count = 3);

/// The candidate that `name` is with one or two wrong letters; empty when there is none or `name` is a candidate
/// itself. For places where names of other people may stand too.
std::string misspelt(const std::string& name, const std::vector<std::string>& candidates);

}  // namespace tsquant

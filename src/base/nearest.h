#pragma once

#include <string>
#include <vector>

namespace tsquant {

/// The candidates that look most like `name`, by Levenshtein distance, closest first; at most `count`, each once. What
/// error messages offer.
std::vector<std::string> nearest(const std::string& name, const std::vector<std::string>& candidates, size_t count = 3);

}  // namespace tsquant

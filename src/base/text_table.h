#pragma once

#include <cstdint>
#include <set>
#include <string>
#include <vector>

namespace tsquant {

/// Columns of text, as wide as their longest cell; the first row is the heading.
class TextTable {
 public:
  explicit TextTable(std::vector<std::string> heading);
  void align_right(std::set<size_t> columns) { right_ = std::move(columns); }
  void add(std::vector<std::string> row);
  std::string text() const;

 private:
  std::vector<std::vector<std::string>> rows_;
  std::set<size_t> right_;
};

/// "1.20 MB" (powers of 1000, as file managers count).
std::string human_bytes(int64_t bytes);

}  // namespace tsquant

#pragma once

#include <c10/util/ArrayRef.h>

#include <algorithm>
#include <cstddef>
#include <vector>

namespace tsquant {

/// Lists of ids by row, in two arrays: what a graph knows of its neighbours once it is complete.
class IdTable {
 public:
  IdTable() = default;
  /// Sorts the items 0..items-1 into rows. @param row_of the row of an item, negative when it is in none; the items of
  /// a row keep their order
  template <typename RowOf>
  IdTable(size_t rows, size_t items, const RowOf& row_of) {
    sort(
        rows, items, [](size_t i) { return static_cast<int>(i); }, row_of);
  }
  /// The same for given items.
  template <typename RowOf>
  IdTable(size_t rows, const std::vector<int>& items, const RowOf& row_of) {
    sort(
        rows, items.size(), [&](size_t i) { return items[i]; }, row_of);
  }

  c10::ArrayRef<int> operator[](int row) const {
    return {ids_.data() + starts_[row], static_cast<size_t>(starts_[row + 1] - starts_[row])};
  }
  /// All items, row by row.
  const std::vector<int>& items() const { return ids_; }

  /// Sorts each row; equal items keep their order.
  template <typename Before>
  void sort_rows(const Before& before) {
    for (size_t row = 0; row + 1 < starts_.size(); ++row) {
      const auto begin = ids_.begin() + starts_[row], end = ids_.begin() + starts_[row + 1];
      if (!std::is_sorted(begin, end, before)) std::stable_sort(begin, end, before);
    }
  }

 private:
  template <typename ItemAt, typename RowOf>
  void sort(size_t rows, size_t items, const ItemAt& item_at, const RowOf& row_of) {
    starts_.assign(rows + 1, 0);
    for (size_t i = 0; i < items; ++i) {
      const int row = row_of(item_at(i));
      if (row >= 0) ++starts_[row];
    }
    for (size_t row = 1; row <= rows; ++row) starts_[row] += starts_[row - 1];
    ids_.resize(static_cast<size_t>(starts_[rows]));
    for (size_t i = items; i-- > 0;) {
      const int row = row_of(item_at(i));
      if (row >= 0) ids_[--starts_[row]] = item_at(i);
    }
  }

  std::vector<int> starts_;  ///< by row: its first item in ids_; one more at the end
  std::vector<int> ids_;
};

}  // namespace tsquant

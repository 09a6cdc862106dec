#pragma once

#include <vector>

namespace tsquant::openvino {

/// Many short lists of ids, most of them empty, in two arrays: a list costs eight bytes until it gets its first entry.
class EntryLists {
 public:
  explicit EntryLists(size_t lists) : ends_(lists) {}

  void push_back(int list, int id) {
    const int entry = static_cast<int>(entries_.size());
    Ends& ends = ends_[list];
    (ends.last < 0 ? ends.first : entries_[ends.last].next) = entry;
    ends.last = entry;
    entries_.push_back({id, -1});
  }

  /// Calls `visit` with every entry of a list, in the order in which they were added.
  template <typename Visit>
  void for_each(int list, const Visit& visit) const {
    for (int at = ends_[list].first; at >= 0; at = entries_[at].next) visit(entries_[at].id);
  }

 private:
  struct Ends {
    int first = -1, last = -1;
  };
  struct Entry {
    int id, next;
  };
  std::vector<Ends> ends_;
  std::vector<Entry> entries_;
};

}  // namespace tsquant::openvino

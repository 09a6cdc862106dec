#pragma once

#include <vector>

namespace tsquant::openvino {

/// Many short lists of ids that grow side by side, in two arrays: a list costs eight bytes, and each entry as many.
class EntryLists {
 public:
  explicit EntryLists(size_t lists) : ends_(lists) {}

  void add_list() { ends_.emplace_back(); }

  void push_back(int list, int id) {
    const int entry = static_cast<int>(entries_.size());
    Ends& ends = ends_[list];
    (ends.last < 0 ? ends.first : entries_[ends.last].next) = entry;
    ends.last = entry;
    entries_.push_back({id, -1});
  }

  /// Takes the first entry with this id out of a list.
  void erase(int list, int id) {
    int before = -1;
    int at = ends_[list].first;
    for (; at >= 0 && entries_[at].id != id; at = entries_[at].next) before = at;
    if (at < 0) return;
    (before < 0 ? ends_[list].first : entries_[before].next) = entries_[at].next;
    if (ends_[list].last == at) ends_[list].last = before;
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

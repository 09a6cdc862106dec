#pragma once

#include <cstddef>
#include <vector>

namespace tsquant::openvino {

/// Many short lists of ids that grow side by side, in two arrays: a list costs eight bytes, and each entry as many.
class EntryLists {
 public:
  explicit EntryLists(size_t lists = 0) : ends_(lists) {}

  /// Adds empty lists until there are this many.
  void grow(size_t lists) {
    if (ends_.size() < lists) ends_.resize(lists);
  }

  void push_back(int list, int id) {
    const int entry = take_entry(id);
    Ends& ends = ends_[list];
    (ends.last < 0 ? ends.first : entries_[ends.last].next) = entry;
    ends.last = entry;
  }

  void clear(int list) {
    Ends& ends = ends_[list];
    if (ends.first < 0) return;
    entries_[ends.last].next = free_;
    free_ = ends.first;
    ends = Ends();
  }

  /// Takes the first entry with this id out of a list.
  void erase(int list, int id) {
    Ends& ends = ends_[list];
    int before = -1, at = ends.first;
    for (; at >= 0 && entries_[at].id != id; at = entries_[at].next) before = at;
    if (at < 0) return;
    (before < 0 ? ends.first : entries_[before].next) = entries_[at].next;
    if (ends.last == at) ends.last = before;
    entries_[at].next = free_;
    free_ = at;
  }

  /// Calls `visit` with every entry of a list, in the order in which they were added. `visit` may add to other lists.
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

  int take_entry(int id) {
    if (free_ < 0) {
      entries_.push_back({id, -1});
      return static_cast<int>(entries_.size()) - 1;
    }
    const int entry = free_;
    free_ = entries_[entry].next;
    entries_[entry] = {id, -1};
    return entry;
  }

  std::vector<Ends> ends_;
  std::vector<Entry> entries_;
  int free_ = -1;  ///< first of the entries that no list holds
};

}  // namespace tsquant::openvino

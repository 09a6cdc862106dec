#include "quantizers/openvino/propagation_queue.h"

#include <algorithm>

namespace tsquant::openvino {

void PropagationQueue::link(int id, int before, int64_t label) {
  if (places_.size() <= static_cast<size_t>(id)) places_.resize(static_cast<size_t>(id) + 1);
  Place& place = places_[id];
  place.before = before;
  place.after = places_[before].after;
  place.label = label;
  place.present = true;
  place.parked = false;
  places_[before].after = id;
  places_[place.after].before = id;
}

PropagationQueue::Entry PropagationQueue::renew(int id) { return {id, ++places_[id].ticket}; }

bool PropagationQueue::is_valid(const Entry& entry) const { return places_[entry.id].ticket == entry.ticket; }

void PropagationQueue::append(int id) {
  const int last = places_[0].before;
  link(id, last, places_[last].label + kSpacing);
  round_.push_back(renew(id));
}

void PropagationQueue::keep(int id) { later_.push_back(renew(id)); }

void PropagationQueue::insert_behind_cursor(int id) {
  int after = places_[anchor_].after;
  if (after != 0 && places_[after].label - places_[anchor_].label < 2) relabel();
  after = places_[anchor_].after;
  const int64_t start = places_[anchor_].label;
  link(id, anchor_, after == 0 ? start + kSpacing : start + (places_[after].label - start) / 2);
  anchor_ = id;
  later_.push_back(renew(id));
}

void PropagationQueue::remove(int id) {
  if (static_cast<size_t>(id) >= places_.size() || !places_[id].present) return;
  Place& place = places_[id];
  places_[place.before].after = place.after;
  places_[place.after].before = place.before;
  if (anchor_ == id) anchor_ = place.before;
  place.present = false;
  ++place.ticket;
}

void PropagationQueue::park(int id) {
  places_[id].parked = true;
  ++places_[id].ticket;
}

void PropagationQueue::push_heap(std::vector<Entry>& heap, int id) {
  heap.push_back(renew(id));
  std::push_heap(heap.begin(), heap.end(),
                 [this](const Entry& a, const Entry& b) { return places_[a.id].label > places_[b.id].label; });
}

void PropagationQueue::unpark(int id) {
  if (static_cast<size_t>(id) >= places_.size() || !places_[id].present || !places_[id].parked) return;
  places_[id].parked = false;
  push_heap(places_[id].label > cursor_ ? joined_round_ : joined_later_, id);
}

/// Drops void entries at the front of the round.
void PropagationQueue::drop_void() {
  while (head_ < round_.size() && !is_valid(round_[head_])) ++head_;
  while (!joined_round_.empty() && !is_valid(joined_round_.front())) {
    std::pop_heap(joined_round_.begin(), joined_round_.end(),
                  [this](const Entry& a, const Entry& b) { return places_[a.id].label > places_[b.id].label; });
    joined_round_.pop_back();
  }
}

int PropagationQueue::next() {
  drop_void();
  if (head_ == round_.size() && joined_round_.empty()) {
    round_.swap(later_);
    later_.clear();
    joined_round_.swap(joined_later_);
    head_ = 0;
    drop_void();
    if (head_ == round_.size() && joined_round_.empty()) return 0;
  }
  const bool from_heap = head_ == round_.size() || (!joined_round_.empty() && places_[joined_round_.front().id].label <
                                                                                  places_[round_[head_].id].label);
  const int id = from_heap ? joined_round_.front().id : round_[head_].id;
  ++places_[id].ticket;
  anchor_ = id;
  cursor_ = places_[id].label;
  return id;
}

/// Spreads the labels evenly.
void PropagationQueue::relabel() {
  int64_t label = 0, cursor = 0;
  for (int id = places_[0].after; id != 0; id = places_[id].after) {
    label += 2 * kSpacing;
    // The quantizer at the cursor may be gone: then the cursor stays right behind the last place before it.
    if (places_[id].label <= cursor_) cursor = label + (places_[id].label < cursor_ ? kSpacing : 0);
    places_[id].label = label;
  }
  cursor_ = cursor;
}

std::vector<int> PropagationQueue::ids() const {
  std::vector<int> ids;
  for (int id = places_[0].after; id != 0; id = places_[id].after) ids.push_back(id);
  return ids;
}

void PropagationQueue::sort_from_cursor(c10::SmallVectorImpl<int>& ids) const {
  std::sort(ids.begin(), ids.end(), [&](int a, int b) {
    const int64_t label_a = places_[a].label, label_b = places_[b].label;
    const bool wrapped_a = label_a < cursor_, wrapped_b = label_b < cursor_;
    return wrapped_a != wrapped_b ? wrapped_b : label_a < label_b;
  });
}

}  // namespace tsquant::openvino

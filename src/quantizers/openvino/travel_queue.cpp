#include "quantizers/openvino/travel_queue.h"

#include <algorithm>

namespace tsquant::openvino {

void TravelQueue::place(int id, int64_t label) {
  if (label_.size() <= static_cast<size_t>(id)) label_.resize(static_cast<size_t>(id) + 1, 0);
  label_[id] = label;
  all_.emplace(label, id);
  active_.emplace(label, id);
}

void TravelQueue::append(int id) { place(id, (all_.empty() ? 0 : all_.rbegin()->first) + kSpacing); }

void TravelQueue::insert_behind_cursor(int id) {
  auto next = all_.upper_bound(cursor_);
  if (next != all_.end() && next->first - cursor_ < 2) {
    relabel();
    next = all_.upper_bound(cursor_);
  }
  const int64_t label = next == all_.end() ? cursor_ + kSpacing : cursor_ + (next->first - cursor_) / 2;
  place(id, label);
  cursor_ = label;
}

/// Spreads the labels; the marks keep their place between the quantizers.
void TravelQueue::relabel() {
  std::map<int64_t, int> all, active;
  int64_t label = 0, turn = 0, cursor = 0;
  for (const auto& [old, id] : all_) {
    // Two spacings, so that the marks of quantizers that left fall between their neighbours.
    label += 2 * kSpacing;
    if (old <= turn_) turn = label + (old < turn_ ? kSpacing : 0);
    if (old <= cursor_) cursor = label + (old < cursor_ ? kSpacing : 0);
    all.emplace(label, id);
    if (active_.count(old)) active.emplace(label, id);
    label_[id] = label;
  }
  all_ = std::move(all);
  active_ = std::move(active);
  turn_ = turn;
  cursor_ = std::max(cursor, turn);
}

void TravelQueue::remove(int id) {
  if (static_cast<size_t>(id) >= label_.size() || label_[id] == 0) return;
  all_.erase(label_[id]);
  active_.erase(label_[id]);
  label_[id] = 0;
}

void TravelQueue::park(int id) { active_.erase(label_[id]); }

void TravelQueue::unpark(int id) {
  if (static_cast<size_t>(id) < label_.size() && label_[id] != 0) active_.emplace(label_[id], id);
}

int TravelQueue::next() {
  if (active_.empty()) return 0;
  auto place = active_.upper_bound(cursor_);
  if (place == active_.end()) place = active_.begin();
  turn_ = cursor_ = place->first;
  return place->second;
}

std::vector<int> TravelQueue::ids() const {
  std::vector<int> ids;
  for (const auto& entry : all_) ids.push_back(entry.second);
  return ids;
}

void TravelQueue::sort_from_cursor(std::vector<int>& ids) const {
  std::sort(ids.begin(), ids.end(), [&](int a, int b) {
    const bool wrapped_a = label_[a] < turn_, wrapped_b = label_[b] < turn_;
    return wrapped_a != wrapped_b ? wrapped_b : label_[a] < label_[b];
  });
}

}  // namespace tsquant::openvino

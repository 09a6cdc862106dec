#include "quantizers/openvino/propagation_state.h"

#include <algorithm>

#include "tsquant/error.h"

namespace tsquant::openvino {

PropagationState::PropagationState(const InsertionPointGraph& graph)
    : graph_(graph),
      forward_(1, 0),
      standing_(graph.sites.size(), 0),
      by_site_(graph.sites.size()),
      by_link_(graph.links.size()) {
  travellers_.push_back({});
}

int PropagationState::find(int id) const {
  int root = id;
  while (forward_[root] != root && root != 0) root = forward_[root];
  while (forward_[id] != root && id != root) {
    const int next = forward_[id];
    forward_[id] = root;
    id = next;
  }
  return root;
}

IdList PropagationState::resolve(const EntryLists& lists, int list) const {
  IdList living;
  lists.for_each(list, [&](int entry) {
    const int id = find(entry);
    if (id != 0) living.push_back(id);
  });
  return living;
}

IdList PropagationState::collect(int id, const EntryLists& lists) const {
  IdList all, stack;
  stack.push_back(id);
  while (!stack.empty()) {
    const int next = stack.back();
    stack.pop_back();
    lists.for_each(next, [&](int entry) { all.push_back(entry); });
    absorbed_.for_each(next, [&](int absorbed) { stack.push_back(absorbed); });
  }
  std::sort(all.begin(), all.end());
  all.erase(std::unique(all.begin(), all.end()), all.end());
  return all;
}

void PropagationState::affect_link(int id, int link) {
  by_link_.push_back(link, id);
  touched_.push_back(id, link);
}

void PropagationState::affect_site(int id, int site) {
  by_site_.push_back(site, id);
  touched_.push_back(id, -1 - site);
}

int PropagationState::add(PropagatingQuantizer traveller) {
  travellers_.push_back(std::move(traveller));
  const auto lists = static_cast<size_t>(travellers_.size());
  for (EntryLists* by_quantizer : {&touched_, &sinks_, &absorbed_, &downstream_}) by_quantizer->grow(lists);
  forward_.push_back(count());
  return count();
}

int PropagationState::create(std::shared_ptr<const QConfigList> configs, int hook, int group) {
  PropagatingQuantizer traveller;
  traveller.configs = std::move(configs);
  traveller.location = hook;
  traveller.group = group;
  const int id = add(std::move(traveller));
  standing_[hook] = id;
  affect_site(id, hook);
  return id;
}

int PropagationState::add_at_pre_hook(std::shared_ptr<const QConfigList> configs, int hook, int group) {
  const int id = create(std::move(configs), hook, group);
  const int link = graph_.out[hook].front();
  const int op = graph_.to(link);
  affect_site(id, op);
  affect_link(id, link);
  sinks_.push_back(id, op);
  return id;
}

int PropagationState::add_at_post_hook(std::shared_ptr<const QConfigList> configs, int hook, int group) {
  const int id = create(std::move(configs), hook, group);
  travellers_[id].stop = StopReason::kMerged;
  return id;
}

int PropagationState::clone(int id) {
  PropagatingQuantizer copy = travellers_[id];
  copy.queued = false;
  const int cloned = add(std::move(copy));
  for (int entry : collect(id, touched_)) entry < 0 ? affect_site(cloned, -1 - entry) : affect_link(cloned, entry);
  for (int sink : collect(id, sinks_)) sinks_.push_back(cloned, sink);
  downstream_.for_each(id, [&](int below) { downstream_.push_back(cloned, below); });
  return cloned;
}

void PropagationState::keep_below(int above, int below) {
  for (int sink : sinks_of(below)) sinks_.push_back(above, sink);
  downstream_.push_back(above, below);
}

IdList PropagationState::downstream_of(int id) const {
  IdList below;
  downstream_.for_each(id, [&](int entry) { below.push_back(entry); });
  return below;
}

void PropagationState::remove(int id, bool keep_standing) {
  PropagatingQuantizer& traveller = travellers_[id];
  if (!keep_standing && standing_[traveller.location] == id) standing_[traveller.location] = 0;
  traveller.alive = false;
  traveller.group = -1;
  traveller.weights_of = -1;
  forward_[id] = 0;
}

void PropagationState::move(int id, const IdList& path) {
  PropagatingQuantizer& traveller = travellers_[id];
  if (standing_[traveller.location] == id) standing_[traveller.location] = 0;
  for (int link : path) {
    affect_link(id, link);
    ++traveller.steps;
    const int from = graph_.from(link);
    if (graph_.sites[from].kind != SiteKind::kBarrier) affect_site(id, from);
  }
  traveller.location = graph_.from(path.back());
  standing_[traveller.location] = id;
}

void PropagationState::extend_to_link(const IdList& ids, int link) {
  for (int id : ids) affect_link(id, link);
}

int PropagationState::new_group() {
  group_forward_.push_back(static_cast<int>(group_forward_.size()));
  return group_forward_.back();
}

int PropagationState::find_group(int group) const {
  while (group_forward_[group] != group) group = group_forward_[group] = group_forward_[group_forward_[group]];
  return group;
}

void PropagationState::merge_groups(int to, int from) {
  to = find_group(to);
  from = find_group(from);
  if (to != from) group_forward_[from] = to;
}

/// The lists keep the entries of `id`, which from now on stand for `survivor`.
void PropagationState::take_over(int survivor, int id) {
  PropagatingQuantizer& gone = travellers_[id];
  PropagatingQuantizer& kept = travellers_[survivor];
  absorbed_.push_back(survivor, id);
  downstream_.erase(survivor, id);
  if (gone.group >= 0) {
    if (kept.group >= 0) {
      merge_groups(gone.group, kept.group);
    } else {
      kept.group = gone.group;
    }
  }
}

void PropagationState::merge_into_path(int id, const IdList& path, int fallback) {
  if (standing_[travellers_[id].location] == id) standing_[travellers_[id].location] = 0;
  IdList survivors;
  for (int link : path) {
    survivors = affecting_link(link);
    if (!survivors.empty()) break;
    affect_link(id, link);
    const int from = graph_.from(link);
    if (graph_.is_hook(from) && standing_[from] != 0) {
      survivors = {standing_[from]};
      break;
    }
    survivors = affecting_site(from);
    if (!survivors.empty()) break;
  }
  survivors.erase(std::remove(survivors.begin(), survivors.end(), id), survivors.end());
  if (survivors.empty() && fallback > 0) survivors = {fallback};
  if (survivors.empty()) throw Error(ErrorCode::kInternal, "a quantizer was lost while merging branches");
  std::sort(survivors.begin(), survivors.end());
  survivors.erase(std::unique(survivors.begin(), survivors.end()), survivors.end());
  // Clones that cross a concatenation share links: every further one receives entries of its own.
  for (size_t i = 1; i < survivors.size(); ++i) {
    for (int link : collect(id, touched_)) {
      if (link < 0) continue;
      by_link_.push_back(link, survivors[i]);
      const int to = graph_.to(link);
      if (graph_.sites[to].kind != SiteKind::kBarrier) by_site_.push_back(to, survivors[i]);
    }
  }
  for (int survivor : survivors) take_over(survivor, id);
  PropagatingQuantizer& gone = travellers_[id];
  gone.alive = false;
  gone.group = -1;
  gone.weights_of = -1;
  forward_[id] = survivors.front();
}

std::vector<int> PropagationState::all_standing() const {
  std::vector<bool> stands(static_cast<size_t>(travellers_.size()), false);
  for (int id : standing_) stands[id] = true;
  std::vector<int> ids;
  for (int id = 1; id <= count(); ++id) {
    if (stands[id]) ids.push_back(id);
  }
  return ids;
}

}  // namespace tsquant::openvino

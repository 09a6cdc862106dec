#include "quantizers/openvino/propagation_state.h"

#include <algorithm>

#include "tsquant/error.h"

namespace tsquant::openvino {

PropagationState::PropagationState(const SiteGraph& graph)
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

IdList PropagationState::collect(int id, IdList Traveller::*member) const {
  IdList all, stack;
  stack.push_back(id);
  while (!stack.empty()) {
    const Traveller& traveller = travellers_[stack.back()];
    stack.pop_back();
    all.append((traveller.*member).begin(), (traveller.*member).end());
    stack.append(traveller.absorbed.begin(), traveller.absorbed.end());
  }
  std::sort(all.begin(), all.end());
  all.erase(std::unique(all.begin(), all.end()), all.end());
  return all;
}

int PropagationState::create(std::shared_ptr<const QConfigList> configs, int hook, int group) {
  Traveller traveller;
  traveller.id = travellers_.size();
  traveller.configs = std::move(configs);
  traveller.location = hook;
  traveller.group = group;
  traveller.hooks = {hook};
  travellers_.push_back(std::move(traveller));
  const int id = count();
  forward_.push_back(id);
  standing_[hook] = id;
  by_site_.push_back(hook, id);
  return id;
}

int PropagationState::add_at_pre_hook(std::shared_ptr<const QConfigList> configs, int hook, int group) {
  const int id = create(std::move(configs), hook, group);
  const int link = graph_.sites[hook].out.front();
  const int op = graph_.to(link);
  by_site_.push_back(op, id);
  by_link_.push_back(link, id);
  Traveller& traveller = travellers_[id];
  traveller.links = {link};
  traveller.operators = {op};
  traveller.sinks = {op};
  return id;
}

int PropagationState::add_at_post_hook(std::shared_ptr<const QConfigList> configs, int hook, int group) {
  const int id = create(std::move(configs), hook, group);
  travellers_[id].stop = StopReason::kMerged;
  return id;
}

int PropagationState::clone(int id) {
  Traveller copy = travellers_[id];
  copy.id = travellers_.size();
  for (const auto member : {&Traveller::links, &Traveller::hooks, &Traveller::operators, &Traveller::sinks}) {
    const auto all = collect(id, member);
    (copy.*member).assign(all.begin(), all.end());
  }
  copy.absorbed.clear();
  copy.queued = false;
  travellers_.push_back(std::move(copy));
  const int cloned = count();
  forward_.push_back(cloned);
  for (int link : travellers_[cloned].links) by_link_.push_back(link, cloned);
  for (int hook : travellers_[cloned].hooks) by_site_.push_back(hook, cloned);
  for (int op : travellers_[cloned].operators) by_site_.push_back(op, cloned);
  return cloned;
}

void PropagationState::remove(int id, bool keep_standing) {
  Traveller& traveller = travellers_[id];
  if (!keep_standing && standing_[traveller.location] == id) standing_[traveller.location] = 0;
  traveller.alive = false;
  traveller.group = -1;
  traveller.weights_of = -1;
  forward_[id] = 0;
}

void PropagationState::move(int id, const IdList& path) {
  Traveller& traveller = travellers_[id];
  if (standing_[traveller.location] == id) standing_[traveller.location] = 0;
  for (int link : path) {
    by_link_.push_back(link, id);
    traveller.links.push_back(link);
    ++traveller.steps;
    const int from = graph_.from(link);
    if (graph_.sites[from].kind == SiteKind::kBarrier) continue;
    by_site_.push_back(from, id);
    (graph_.is_hook(from) ? traveller.hooks : traveller.operators).push_back(from);
  }
  traveller.location = graph_.from(path.back());
  standing_[traveller.location] = id;
}

void PropagationState::extend_to_link(const IdList& ids, int link) {
  for (int id : ids) {
    by_link_.push_back(link, id);
    travellers_[id].links.push_back(link);
  }
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
  Traveller& gone = travellers_[id];
  Traveller& kept = travellers_[survivor];
  kept.absorbed.push_back(id);
  kept.downstream.erase(std::remove(kept.downstream.begin(), kept.downstream.end(), id), kept.downstream.end());
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
    travellers_[id].links.push_back(link);
    by_link_.push_back(link, id);
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
    for (int link : collect(id, &Traveller::links)) {
      by_link_.push_back(link, survivors[i]);
      const int to = graph_.to(link);
      if (graph_.sites[to].kind != SiteKind::kBarrier) by_site_.push_back(to, survivors[i]);
    }
  }
  for (int survivor : survivors) take_over(survivor, id);
  Traveller& gone = travellers_[id];
  gone.alive = false;
  gone.group = -1;
  gone.weights_of = -1;
  forward_[id] = survivors.front();
}

std::vector<int> PropagationState::all_standing() const {
  std::vector<int> ids;
  for (int id : standing_) {
    if (id != 0) ids.push_back(id);
  }
  std::sort(ids.begin(), ids.end());
  ids.erase(std::unique(ids.begin(), ids.end()), ids.end());
  return ids;
}

}  // namespace tsquant::openvino

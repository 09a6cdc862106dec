#include "quantizers/openvino/propagation_solver.h"

#include <algorithm>

#include "tsquant/error.h"

namespace tsquant::openvino {

namespace {

/// Query and key are the other two tensors of attention that NNCF quantizes.
constexpr int64_t kAttentionValuePort = 2;

}  // namespace

PropagationSolver::PropagationSolver(PropagationState& state, const std::vector<OpPlan>& plans,
                                     const SolverOptions& options)
    : state_(state),
      graph_(state.graph()),
      plans_(plans),
      options_(options),
      waiting_(state.graph().sites.size()),
      missing_at_(state.graph().sites.size(), 0),
      left_behind_(state.graph().sites.size(), 0),
      lists_(plans.size()),
      seen_(state.graph().sites.size(), 0) {
  find_output_dominators();
}

std::vector<int> PropagationSolver::run() {
  start_quantizers();
  find_float_consumers();
  while (!queue_.empty()) {
    const int id = queue_.next();
    if (id == 0) {
      release_all();
      continue;
    }
    state_.at(id).queued = false;
    if (state_.at(id).waiting_at >= 0) {
      step_waiting(id);
    } else {
      step(id);
    }
  }
  return finished_;
}

/// Every remaining quantizer waits for another one: their branches are not merged.
void PropagationSolver::release_all() {
  for (int id : queue_.ids()) finish(id, StopReason::kBranchesDiffer);
  waiting_ = EntryLists(graph_.sites.size());
  missing_at_.assign(graph_.sites.size(), 0);
}

void PropagationSolver::notify(int id) {
  watchers_.grow(static_cast<size_t>(id) + 1);
  watchers_.for_each(id, [this](int watcher) {
    if (state_.at(watcher).waiting_at >= 0) missing_at_[state_.at(watcher).waiting_at] = 0;
    queue_.unpark(watcher);
  });
  watchers_.clear(id);
}

void PropagationSolver::finish(int id, StopReason reason) {
  PropagatingQuantizer& traveller = state_.at(id);
  traveller.waiting_at = -1;
  traveller.queued = false;
  if (reason != StopReason::kStart) traveller.stop = reason;
  state_.set_standing(traveller.location, id);
  finished_.push_back(id);
  queue_.remove(id);
  notify(id);
}

std::shared_ptr<const QConfigList> PropagationSolver::candidates(int site) {
  if (graph_.is_output(site)) return std::make_shared<const QConfigList>(make_candidates(site));
  auto& list = lists_[graph_.sites[site].metatype];
  if (!list) list = std::make_shared<const QConfigList>(make_candidates(site));
  return list;
}

QConfigList PropagationSolver::make_candidates(int site) const {
  const QConfigList defaults = {options_.activations.apply_to(QConfig())};
  const std::string& name = *graph_.graph->node(graph_.sites[site].node).name;
  if (graph_.is_output(site)) return options_.activations.filter(defaults, name, "activation");
  const int metatype = graph_.sites[site].metatype;
  const OpPlan& plan = plans_[metatype];
  if (plan.listed && plan.activations.empty()) return {QConfig()};
  Constraints constraints = options_.activations;
  // Attention runs in integers with symmetric inputs only.
  if (!metatype_row(metatype).target_input_ports.empty()) constraints.mode = QuantizationScheme::kSymmetric;
  QConfigList list = constraints.filter(plan.listed ? plan.activations : defaults, name, "activation");
  if (!plan.unified_scales) return list;
  list.erase(std::remove_if(list.begin(), list.end(), [](const QConfig& config) { return config.per_channel; }),
             list.end());
  if (list.empty()) {
    throw Error(ErrorCode::kInvalidArgument, "an operator whose inputs share one scale allows per-channel only", name,
                "leave activations_quantization_params.per_channel unset");
  }
  return list;
}

void PropagationSolver::start_quantizers() {
  order_ = start_order(graph_);
  for (int site : order_) {
    if (graph_.is_operator(site)) start_at_operator(site);
  }
}

void PropagationSolver::start_at_operator(int site) {
  const Site& op = graph_.sites[site];
  if (op.ignored || graph_.in[site].empty()) return;
  const bool output = graph_.is_output(site);
  if (output ? !options_.quantize_outputs : op.trait != QuantizationTrait::kInputsQuantizable) return;
  const OpInfo& row = metatype_row(op.metatype);
  IdList hooks;
  for (int link : graph_.in[site]) {
    const int hook = graph_.from(link);
    const int64_t port = graph_.sites[hook].port;
    const auto holds = [port](const std::vector<int64_t>& ports) {
      return std::find(ports.begin(), ports.end(), port) != ports.end();
    };
    if (graph_.links[link].integer || holds(row.ignored_input_ports)) continue;
    const bool value_of_attention = options_.attention_values && port == kAttentionValuePort;
    if (!row.target_input_ports.empty() && !holds(row.target_input_ports) && !value_of_attention) continue;
    hooks.push_back(hook);
  }
  std::sort(hooks.begin(), hooks.end(),
            [&](int a, int b) { return std::to_string(graph_.sites[a].port) < std::to_string(graph_.sites[b].port); });
  if (hooks.empty()) return;
  const auto list = candidates(site);
  const int group = plans_[op.metatype].unified_scales && !output ? state_.new_group() : -1;
  for (int hook : hooks) {
    const int id = state_.add_at_pre_hook(list, hook, group);
    queue_.append(id);
    state_.at(id).queued = true;
  }
}

void PropagationSolver::step(int id) {
  const int hook = state_.at(id).location;
  const auto paths = paths_above(hook);
  if (paths.empty()) {
    StopReason reason = StopReason::kStart;
    for (int link : graph_.in[hook]) {
      const Site& above = graph_.sites[graph_.from(link)];
      if (above.kind == SiteKind::kBarrier) reason = StopReason::kIgnored;
      if (above.trait == QuantizationTrait::kOutputQuantizationAsWeights) state_.at(id).weights_of = graph_.from(link);
    }
    finish(id, reason);
    return;
  }
  const auto travellers = make_clones(id, paths.size());
  const IdList clones = paths.size() > 1 ? travellers : IdList();
  IdList remaining;
  for (size_t i = 0; i < paths.size(); ++i) {
    if (process_path(travellers[i], paths[i], clones)) remaining.push_back(travellers[i]);
  }
  for (int traveller : remaining) {
    if (traveller == id) {
      queue_.keep(id);
    } else {
      queue_.insert_behind_cursor(traveller);
    }
    state_.at(traveller).queued = true;
  }
}

/// One quantizer per path, the original first. Crossing an operator with unified scales joins them in a group.
IdList PropagationSolver::make_clones(int id, size_t paths) {
  const bool unify = paths > 1 && needs_unified_scales(state_.at(id).location);
  IdList travellers = {id};
  for (size_t i = 1; i < paths; ++i) travellers.push_back(state_.clone(id));
  if (unify) {
    if (state_.at(id).group < 0) state_.join_group(state_.new_group(), id);
    for (int traveller : travellers) state_.join_group(state_.at(id).group, traveller);
  }
  return travellers;
}

bool PropagationSolver::process_path(int id, const IdList& path, const IdList& clones) {
  const Check check = check_path(id, path, clones);
  switch (check.transition) {
    case Transition::kStop:
      if (!clones.empty() && id != clones.front()) {
        state_.remove(id, true);
      } else {
        finish(id, check.reason);
      }
      return false;
    case Transition::kMove:
      state_.move(id, path);
      notify(id);
      return true;
    case Transition::kMerge:
      state_.merge_into_path(id, path);
      queue_.remove(id);
      notify(id);
      return false;
    case Transition::kWait: {
      const int branch = graph_.from(path.front());
      waiting_.push_back(branch, id);
      state_.at(id).waiting_at = branch;
      notify(id);
      return true;
    }
  }
  return false;
}

PropagationSolver::Check PropagationSolver::check_conflict(int id, int resident) const {
  const auto& mine = state_.at(id).configs;
  const auto& theirs = state_.at(resident).configs;
  if (mine == theirs || *mine == *theirs) return {Transition::kMerge};
  return {Transition::kStop, StopReason::kOtherConfig};
}

PropagationSolver::Check PropagationSolver::check_path(int id, const IdList& path, const IdList& clones) {
  for (int link : path) {
    const int from = graph_.from(link);
    const Site& site = graph_.sites[from];
    if (site.kind == SiteKind::kOperator) {
      if (site.trait == QuantizationTrait::kOutputQuantizationAsWeights) state_.at(id).weights_of = from;
      if (site.trait != QuantizationTrait::kQuantizationAgnostic && site.trait != QuantizationTrait::kConcat) {
        return {Transition::kStop, site.ignored ? StopReason::kIgnored : StopReason::kProducer};
      }
    }
    if (graph_.links[link].integer) return {Transition::kStop, StopReason::kInteger};
    const auto on_link = state_.affecting_link(link);
    if (!on_link.empty() && clones.empty()) return check_conflict(id, on_link.front());
    if (graph_.is_hook(from)) {
      const auto on_hook = state_.affecting_site(from);
      if (!on_hook.empty() && clones.empty()) {
        const Check check = check_conflict(id, on_hook.front());
        if (check.transition == Transition::kStop) state_.extend_to_link(on_hook, link);
        return check;
      }
    }
    if (graph_.out[from].size() > 1) {
      const Check check = check_branching(id, from);
      if (check.transition != Transition::kMove) return check;
    }
  }
  return {Transition::kMove};
}

template <typename Visitor>
void PropagationSolver::visit_operators_below(int branch, Visitor&& visitor) const {
  ++stamp_;
  auto& queue = walk_;
  queue.assign(1, branch);
  for (size_t head = 0; head < queue.size(); ++head) {
    const int current = queue[head];
    for (int link : graph_.out[current]) {
      const int next = graph_.to(link);
      if (!visit(next)) continue;
      const Site& below = graph_.sites[next];
      if (below.kind != SiteKind::kOperator || below.trait == QuantizationTrait::kQuantizationAgnostic) {
        queue.push_back(next);
      } else {
        visitor(next);
      }
    }
  }
}

template <typename Visitor>
void PropagationSolver::visit_travelling_below(int site, int also, Visitor&& visitor) const {
  ++stamp_;
  auto& queue = walk_;
  queue.assign(1, site);
  visit(site);
  for (size_t head = 0; head < queue.size(); ++head) {
    const int current = queue[head];
    const int id = graph_.is_hook(current) ? state_.standing(current) : 0;
    if (id != 0) {
      if ((state_.at(id).queued || id == also) && !visitor(id)) return;
      continue;
    }
    for (int link : graph_.out[current]) {
      const int next = graph_.to(link);
      if (!left_behind_[next] && visit(next)) queue.push_back(next);
    }
  }
}

/// Quantizers that were removed may still stand, and others below them travel on: those are looked for, too.
void PropagationSolver::leave_behind(int branch) {
  ++stamp_;
  auto& queue = walk_;
  queue.assign(1, branch);
  for (size_t head = 0; head < queue.size(); ++head) {
    for (int link : graph_.out[queue[head]]) {
      const int next = graph_.to(link);
      if (left_behind_[next] || !visit(next)) continue;
      const int id = graph_.is_hook(next) ? state_.standing(next) : 0;
      if (id != 0 && state_.at(id).queued) return;
      if (id == 0 || !state_.at(id).alive) queue.push_back(next);
    }
  }
  for (size_t i = 1; i < queue.size(); ++i) left_behind_[queue[i]] = 1;
}

bool PropagationSolver::is_affected_by_other(int op, int id) const {
  const auto affecting = state_.affecting_site(op);
  return std::any_of(affecting.begin(), affecting.end(), [id](int other) { return other != id; });
}

/// Depth first: a tensor may have thousands of readers, and one of the first answers the question.
bool PropagationSolver::has_others_below(int branch, int id) const {
  ++stamp_;
  c10::SmallVector<std::pair<int, size_t>, 8> path = {{branch, 0}};  // site, its next link
  while (!path.empty()) {
    const auto out = graph_.out[path.back().first];
    if (path.back().second == out.size()) {
      path.pop_back();
      continue;
    }
    const int next = graph_.to(out[path.back().second++]);
    if (!visit(next)) continue;
    const Site& below = graph_.sites[next];
    if (below.kind != SiteKind::kOperator || below.trait == QuantizationTrait::kQuantizationAgnostic) {
      path.push_back({next, 0});
    } else if (is_affected_by_other(next, id)) {
      return true;
    }
  }
  return false;
}

PropagationSolver::Check PropagationSolver::check_branching(int id, int branch) {
  if (dominates_output_[branch] && !options_.quantize_outputs) return {Transition::kStop, StopReason::kModelOutput};
  if (float_below_[branch]) return {Transition::kStop, StopReason::kOtherConsumer};
  if (!special_below_[branch]) return {has_others_below(branch, id) ? Transition::kWait : Transition::kMove};
  bool others = false;
  IdList operators;
  visit_operators_below(branch, [&](int op) { operators.push_back(op); });
  for (int op : operators) {
    const Site& site = graph_.sites[op];
    const bool picks_ports = site.metatype >= 0 && !metatype_row(site.metatype).target_input_ports.empty();
    if (picks_ports && !all_outputs_quantized(branch)) return {Transition::kStop, StopReason::kOtherConsumer};
    if (!state_.affecting_site(op).empty()) {
      others = others || is_affected_by_other(op, id);
      continue;
    }
    // A concatenation that no quantizer has reached yet: those on their way to it count.
    bool coming = false;
    visit_travelling_below(op, 0, [&](int other) {
      coming = true;
      others = others || other != id;
      return !others;
    });
    if (!coming) return {Transition::kStop, StopReason::kOtherConsumer};
  }
  return {others ? Transition::kWait : Transition::kMove};
}

/// Merges when every quantizer that travels below the branch has arrived at it, else parks until one that is missing
/// has moved.
void PropagationSolver::step_waiting(int id) {
  const int branch = state_.at(id).waiting_at;
  int& missing = missing_at_[branch];
  if (missing == 0) {
    size_t arrived = 0;
    visit_travelling_below(branch, id, [&](int other) {
      if (state_.at(other).waiting_at == branch) {
        ++arrived;
      } else {
        missing = other;
      }
      return missing == 0;
    });
    IdList waiting;
    waiting_.for_each(branch, [&](int other) { waiting.push_back(other); });
    if (missing == 0 && arrived == waiting.size()) {
      std::sort(waiting.begin(), waiting.end());
      merge_at(branch, waiting);
      return;
    }
  }
  state_.at(id).queued = true;
  queue_.park(id);
  if (missing == 0) return;
  watchers_.grow(static_cast<size_t>(missing) + 1);
  watchers_.push_back(missing, id);
}

const PropagationSolver::Merge& PropagationSolver::decide(const IdList& waiting) {
  ListsAtBranch lists;
  for (int id : waiting) lists.push_back(state_.at(id).configs.get());
  const auto found = merges_.find(lists);
  if (found != merges_.end()) return found->second;
  auto decision = decide_merge(options_.rule, {lists.begin(), lists.end()});
  Merge merge{nullptr, std::move(decision.keep)};
  if (decision.merge) merge.above = std::make_shared<const QConfigList>(std::move(decision.above));
  return merges_.emplace(std::move(lists), std::move(merge)).first->second;
}

void PropagationSolver::merge_at(int branch, const IdList& waiting) {
  Check stop{Transition::kMove, StopReason::kBranchesDiffer};
  for (int id : waiting) {
    const Check check = check_branching(id, branch);
    if (check.transition == Transition::kStop) stop = check;
  }
  const Merge* merge = stop.transition == Transition::kStop ? nullptr : &decide(waiting);
  const int above = merge && merge->above ? state_.add_at_post_hook(merge->above, branch, -1) : 0;
  IdList kept;
  for (size_t i = 0; i < waiting.size(); ++i) {
    PropagatingQuantizer& traveller = state_.at(waiting[i]);
    traveller.queued = false;
    traveller.waiting_at = -1;
    if (!merge || merge->keep[i]) {
      kept.push_back(waiting[i]);
      if (above == 0) continue;
      state_.keep_below(above, waiting[i]);
    } else {
      state_.merge_into_path(waiting[i], IdList{graph_.in[traveller.location].front()});
      queue_.remove(waiting[i]);
      notify(waiting[i]);
    }
  }
  queue_.sort_from_cursor(kept);
  for (int id : kept) finish(id, stop.reason);
  leave_behind(branch);
  waiting_.clear(branch);
  missing_at_[branch] = 0;
  if (above == 0) return;
  queue_.insert_behind_cursor(above);
  state_.at(above).queued = true;
}

}  // namespace tsquant::openvino

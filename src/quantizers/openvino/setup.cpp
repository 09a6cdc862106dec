#include "quantizers/openvino/setup.h"

#include <algorithm>
#include <map>
#include <unordered_map>

namespace tsquant::openvino {

SetupPoint* Setup::find(int id) {
  const auto found = std::lower_bound(points.begin(), points.end(), id,
                                      [](const SetupPoint& point, int wanted) { return point.id < wanted; });
  return found == points.end() || found->id != id ? nullptr : &*found;
}

void Setup::discard(std::vector<int> ids) {
  std::sort(ids.begin(), ids.end());
  const auto gone = [&ids](int id) { return std::binary_search(ids.begin(), ids.end(), id); };
  points.erase(std::remove_if(points.begin(), points.end(), [&](const SetupPoint& point) { return gone(point.id); }),
               points.end());
  for (auto& group : unified_groups) group.erase(std::remove_if(group.begin(), group.end(), gone), group.end());
  unified_groups.erase(std::remove_if(unified_groups.begin(), unified_groups.end(),
                                      [](const std::vector<int>& group) { return group.size() < 2; }),
                       unified_groups.end());
}

namespace {

/// The first quantizers below the integer inputs of the model.
std::vector<int> below_integer_inputs(const PropagationState& state) {
  const InsertionPointGraph& graph = state.graph();
  std::vector<int> ids, stack;
  std::vector<bool> seen(graph.sites.size(), false);
  for (size_t i = 0; i < graph.sites.size(); ++i) {
    const int site = static_cast<int>(i);
    if (!graph.is_operator(site) || !graph.is_input(site)) continue;
    const auto& out = graph.out[i];
    if (std::any_of(out.begin(), out.end(), [&](int link) { return graph.links[link].integer; })) stack.push_back(site);
  }
  while (!stack.empty()) {
    const int site = stack.back();
    stack.pop_back();
    if (seen[site]) continue;
    seen[site] = true;
    if (graph.is_hook(site) && state.standing(site) != 0) {
      ids.push_back(state.standing(site));
      continue;
    }
    const bool wall = graph.is_operator(site) && graph.sites[site].trait != QuantizationTrait::kQuantizationAgnostic;
    if ((wall && !graph.is_input(site)) || graph.sites[site].kind == SiteKind::kBarrier) continue;
    for (int link : graph.out[site]) stack.push_back(graph.to(link));
  }
  return ids;
}

void append_sinks(IdList& nodes, const PropagationState& state, const IdList& sinks) {
  for (int sink : sinks) nodes.push_back(state.graph().sites[sink].node);
  std::sort(nodes.begin(), nodes.end());
}

SetupPoint activation_point(const PropagationState& state, int id, bool with_sinks) {
  const PropagatingQuantizer& traveller = state.at(id);
  const Site& hook = state.graph().sites[traveller.location];
  SetupPoint point;
  point.id = id;
  point.node = hook.node;
  point.port = hook.kind == SiteKind::kPreHook ? hook.port : -1;
  point.configs = traveller.configs;
  point.stop = traveller.stop;
  if (!with_sinks) return point;
  IdList sinks = state.sinks_of(id);
  // A quantizer that stays on a branch below this one serves its operators itself.
  for (int below : state.downstream_of(id)) {
    for (int sink : state.sinks_of(state.find(below))) {
      sinks.erase(std::remove(sinks.begin(), sinks.end(), sink), sinks.end());
    }
  }
  append_sinks(point.quantized_nodes, state, sinks);
  return point;
}

std::map<int, std::vector<int>> groups_of(const PropagationState& state, const std::vector<int>& ids) {
  std::map<int, std::vector<int>> groups;
  for (int id : ids) {
    const int group = state.group_of(id);
    if (group >= 0) groups[group].push_back(id);
  }
  return groups;
}

/// Weight candidates that a quantizer of the table's output also allows. An activation without forced sign may take
/// either.
QConfigList intersect(const QConfigList& weights, const QConfigList& activations) {
  QConfigList common;
  for (const QConfig& weight : weights) {
    QConfig any_sign = weight;
    any_sign.signedness_to_force = c10::nullopt;
    if (contains(activations, weight) || contains(activations, any_sign)) common.push_back(weight);
  }
  return common;
}

/// An embedding's table is quantized instead of its output where both allow the same configuration.
/// @return ids of the activation quantizers that are no longer needed
std::vector<int> move_to_embedding_weights(Setup& setup, const PropagationState& state, const std::vector<int>& ids,
                                           const std::vector<int>& weight_id_of_node,
                                           std::map<int, std::vector<int>>& groups) {
  std::vector<int> discarded;
  for (int id : ids) {
    const int op = state.at(id).weights_of;
    if (op < 0) continue;
    const int weight_id = weight_id_of_node[state.graph().sites[op].node];
    if (weight_id == 0) continue;
    std::vector<int> members = {id};
    const int group = state.group_of(id);
    if (group >= 0) members = groups[group];
    QConfigList common = *setup.find(weight_id)->configs;
    for (int member : members) {
      const SetupPoint* point = setup.find(member);
      if (point) common = intersect(common, *point->configs);
    }
    common.erase(std::remove_if(common.begin(), common.end(), [](const QConfig& config) { return config.per_channel; }),
                 common.end());
    if (common.empty()) continue;
    const auto shared = std::make_shared<const QConfigList>(common);
    setup.find(weight_id)->configs = shared;
    for (int member : members) {
      if (SetupPoint* point = setup.find(member)) point->configs = shared;
    }
    if (group >= 0) groups[group].push_back(weight_id);
    setup.discard({id});
    discarded.push_back(id);
  }
  return discarded;
}

Setup create_setup(const PropagationState& state, const std::vector<WeightedNode>& weighted, bool with_sinks,
                   std::vector<int>& discarded) {
  Setup setup;
  const auto ids = state.all_standing();
  setup.points.reserve(ids.size() + weighted.size());
  for (int id : ids) setup.points.push_back(activation_point(state, id, with_sinks));
  int next_id = ids.empty() ? 1 : ids.back() + 2;
  std::vector<int> weight_id_of_node(state.graph().graph->size(), 0);
  for (const auto& weight : weighted) {
    SetupPoint point;
    point.id = next_id++;
    point.kind = PointKind::kWeight;
    point.node = weight.node;
    point.configs = weight.configs;
    point.quantized_nodes = {weight.node};
    weight_id_of_node[weight.node] = point.id;
    setup.points.push_back(std::move(point));
  }
  auto groups = groups_of(state, ids);
  discarded = move_to_embedding_weights(setup, state, ids, weight_id_of_node, groups);
  for (auto& point : setup.points) {
    point.chosen = point.configs->front();
    // The hardware tables know 16 bits, which win where a rule leaves nothing else; no output form has them.
    point.chosen.num_bits = std::min(point.chosen.num_bits, 8);
  }
  std::vector<const SetupPoint*> by_id(next_id, nullptr);
  for (const auto& point : setup.points) by_id[point.id] = &point;
  for (auto& entry : groups) {
    std::vector<int> members;
    for (int id : entry.second) {
      if (by_id[id] && !by_id[id]->config().per_channel) members.push_back(id);
    }
    std::sort(members.begin(), members.end());
    members.erase(std::unique(members.begin(), members.end()), members.end());
    if (members.size() > 1) setup.unified_groups.push_back(std::move(members));
  }
  std::sort(setup.unified_groups.begin(), setup.unified_groups.end());
  return setup;
}

/// Leaves one candidate to every quantizer, and takes away those whose operator quantizes its weight instead.
/// @return the weights, with one candidate each
std::vector<WeightedNode> choose_configs(PropagationState& state, const std::vector<WeightedNode>& weighted) {
  std::vector<int> discarded;
  const Setup first = create_setup(state, weighted, false, discarded);
  std::unordered_map<const QConfigList*, std::shared_ptr<const QConfigList>> single;
  const auto only = [&single](const SetupPoint& point) {
    auto& list = single[point.configs.get()];
    if (!list) list = std::make_shared<const QConfigList>(QConfigList{point.chosen});
    return list;
  };
  for (const auto& point : first.points) {
    if (point.kind == PointKind::kActivation) state.at(point.id).configs = only(point);
  }
  for (int id : discarded) state.remove(id);
  std::vector<WeightedNode> chosen;
  chosen.reserve(weighted.size());
  for (const auto& point : first.points) {
    if (point.kind == PointKind::kWeight) chosen.push_back({point.node, only(point)});
  }
  return chosen;
}

/// Removes quantizers below others with an equal or stricter configuration, through operators that only move values.
/// A walk starts at every root; an operator that computes forgets what stood above it, so it is entered once.
class ChainMerger {
 public:
  explicit ChainMerger(PropagationState& state)
      : state_(state), graph_(state.graph()), seen_(graph_.sites.size(), 0), done_(graph_.sites.size(), false) {}

  void run() {
    for (size_t i = 0; i < graph_.roots.size(); ++i) walk(graph_.roots[i], static_cast<int>(i) + 1);
  }

 private:
  struct Visit {
    int site, link, above;
  };

  void walk(int root, int stamp) {
    std::vector<Visit> stack = {{root, -1, 0}};
    while (!stack.empty()) {
      const Visit visit = stack.back();
      stack.pop_back();
      const int above = pass(visit);
      seen_[visit.site] = stamp;
      if (above < 0) continue;
      for (int link : graph_.out[visit.site]) {
        if (seen_[graph_.to(link)] != stamp) stack.push_back({graph_.to(link), link, above});
      }
    }
  }

  /// @return the quantizer that affects what is below the site, 0 for none, -1 to go no further
  int pass(const Visit& visit) {
    const Site& site = graph_.sites[visit.site];
    if (visit.link >= 0 && graph_.links[visit.link].integer) return 0;
    if (graph_.is_hook(visit.site)) {
      const int here = state_.standing(visit.site);
      if (here == 0) return visit.above;
      if (visit.above == 0 || visit.above == here) return here;
      if (!makes_redundant(state_.at(visit.above).configs->front(), state_.at(here).configs->front())) return here;
      state_.merge_into_path(here, IdList{visit.link}, visit.above);
      return visit.above;
    }
    const bool moves = site.kind == SiteKind::kOperator && site.trait == QuantizationTrait::kQuantizationAgnostic;
    if (moves) return visit.above;
    if (done_[visit.site]) return -1;
    done_[visit.site] = true;
    return 0;
  }

  PropagationState& state_;
  const InsertionPointGraph& graph_;
  std::vector<int> seen_;
  std::vector<bool> done_;
};

}  // namespace

std::vector<int> filter_travellers(PropagationState& state, const std::vector<int>& finished) {
  for (int id : below_integer_inputs(state)) state.remove(id);
  std::vector<int> removed, lonely;
  for (int id : finished) {
    if (!state.at(id).alive || state.find(id) != id || state.at(id).steps > 1) continue;
    const auto sinks = state.sinks_of(id);
    if (sinks.size() != 1) continue;
    const int metatype = state.graph().sites[sinks.front()].metatype;
    if (metatype < 0 || !elementwise_metatypes().has(metatype)) continue;
    if (state.affecting_site(sinks.front()).size() == 1) {
      removed.push_back(id);
      lonely.push_back(sinks.front());
    }
  }
  for (int id : removed) state.remove(id);
  return lonely;
}

Setup make_setup(PropagationState& state, const std::vector<WeightedNode>& weighted) {
  const auto chosen = choose_configs(state, weighted);
  ChainMerger(state).run();
  std::vector<int> discarded;
  return create_setup(state, chosen, true, discarded);
}

}  // namespace tsquant::openvino

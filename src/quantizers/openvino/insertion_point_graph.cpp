#include "quantizers/openvino/insertion_point_graph.h"

#include <algorithm>
#include <functional>
#include <queue>
#include <utility>

namespace tsquant::openvino {

namespace {

class Builder {
 public:
  Builder(const InferenceGraph& graph, const std::vector<IdList>& fused) : graph_(graph), fused_(fused) {
    result_.graph = &graph;
    result_.operator_of.assign(graph.size(), -1);
    post_hook_.assign(graph.size(), -1);
    group_.assign(graph.size(), -1);
    for (size_t i = 0; i < fused.size(); ++i) {
      if (fused[i].size() < 2) continue;
      for (int node : fused[i]) group_[node] = static_cast<int>(i);
    }
  }

  InsertionPointGraph build() {
    result_.sites.reserve(graph_.size() * 2 + graph_.edges.size());
    result_.links.reserve(graph_.size() * 2 + graph_.edges.size() * 2);
    for (int node : graph_.order) {
      if (group_[node] < 0) add_operator({node});
    }
    for (const auto& members : fused_) {
      if (members.size() >= 2) add_operator(members);
    }
    for (int node : graph_.order) add_hooks(node);
    spread_integers();
    return std::move(result_);
  }

 private:
  int add_site(SiteKind kind, int node, int port = -1) {
    Site site;
    site.kind = kind;
    site.node = node;
    site.port = port;
    result_.sites.push_back(site);
    return static_cast<int>(result_.sites.size()) - 1;
  }

  void add_operator(c10::ArrayRef<int> members) {
    const int site = add_site(SiteKind::kOperator, members.front());
    result_.sites[site].last = members.back();
    result_.sites[site].metatype = graph_.node(members.front()).metatype;
    for (int node : members) result_.operator_of[node] = site;
    if (graph_.node(members.front()).kind == PlacementKind::kOutput) result_.outputs.push_back(site);
  }

  /// Only the hooks before the first and after the last member of a fused group remain.
  void add_hooks(int node) {
    const int op = result_.operator_of[node];
    const bool first = result_.sites[op].node == node, last = result_.sites[op].last == node;
    if (first) {
      for (int id : graph_.in_edges[node]) {
        const FlowEdge& edge = graph_.edges[id];
        const int hook = add_site(SiteKind::kPreHook, node, edge.input_port);
        if (post_hook_[edge.from] >= 0) result_.links.push_back({post_hook_[edge.from], hook, edge.integer});
        result_.links.push_back({hook, op, edge.integer});
      }
    }
    if (!last) return;
    const auto& out = graph_.out_edges[node];
    const bool integer = std::any_of(out.begin(), out.end(), [&](int id) { return graph_.edges[id].integer; });
    post_hook_[node] = add_site(SiteKind::kPostHook, node);
    result_.links.push_back({op, post_hook_[node], integer});
  }

  /// One integer consumer makes every use of the tensor an integer one.
  void spread_integers() {
    std::vector<bool> integer(result_.sites.size(), false);
    const auto leaves_post_hook = [&](const Link& link) {
      return result_.sites[link.from].kind == SiteKind::kPostHook;
    };
    for (const Link& link : result_.links) {
      if (link.integer && leaves_post_hook(link)) integer[link.from] = true;
    }
    for (Link& link : result_.links) link.integer = link.integer || integer[link.from];
  }

  const InferenceGraph& graph_;
  const std::vector<IdList>& fused_;
  InsertionPointGraph result_;
  std::vector<int> post_hook_, group_;
};

/// operator -> post-hook becomes operator -> barrier -> post-hook, for the operators left out by name or pattern.
void add_barriers(InsertionPointGraph& graph, const std::vector<bool>& ignored) {
  const size_t sites = graph.sites.size(), links = graph.links.size();
  for (size_t op = 0; op < sites; ++op) {
    if (graph.sites[op].kind != SiteKind::kOperator || !ignored[graph.sites[op].node]) continue;
    graph.sites[op].ignored = true;
    graph.sites[op].metatype = -1;
    Site barrier;
    barrier.kind = SiteKind::kBarrier;
    barrier.node = graph.sites[op].node;
    graph.links.push_back({static_cast<int>(op), static_cast<int>(graph.sites.size()), false});
    graph.sites.push_back(barrier);
  }
  if (graph.links.size() == links) return;
  std::vector<int> new_link(sites, -1);
  for (size_t i = links; i < graph.links.size(); ++i) new_link[graph.links[i].from] = static_cast<int>(i);
  for (size_t i = 0; i < links; ++i) {
    Link& link = graph.links[i];
    if (new_link[link.from] < 0) continue;
    Link& above = graph.links[new_link[link.from]];
    above.integer = above.integer || link.integer;
    link.from = above.to;
  }
}

}  // namespace

bool InsertionPointGraph::is_output(int site) const {
  return graph->node(sites[site].node).kind == PlacementKind::kOutput;
}
bool InsertionPointGraph::is_input(int site) const {
  return graph->node(sites[site].node).kind == PlacementKind::kInput;
}

InsertionPointGraph make_site_graph(const InferenceGraph& graph, const std::vector<IdList>& fused,
                                    const std::vector<bool>& ignored, const MetatypeSet& by_metatype,
                                    const std::vector<OpPlan>& plans) {
  InsertionPointGraph result = Builder(graph, fused).build();
  add_barriers(result, ignored);
  for (Site& site : result.sites) {
    if (site.kind != SiteKind::kOperator || site.ignored) continue;
    site.ignored = by_metatype.has(site.metatype);
    if (!site.ignored) site.trait = plans[site.metatype].trait;
  }
  const size_t sites = result.sites.size(), links = result.links.size();
  result.in = IdTable(sites, links, [&](int link) { return result.to(link); });
  result.out = IdTable(sites, links, [&](int link) { return result.from(link); });
  for (size_t i = 0; i < sites; ++i) {
    if (result.in[static_cast<int>(i)].empty()) result.roots.push_back(static_cast<int>(i));
  }
  return result;
}

std::vector<int> site_ranks(const InsertionPointGraph& graph) {
  const auto node_ranks = textual_ranks(static_cast<int>(graph.graph->size()));
  int ports = 0;
  for (const Site& site : graph.sites) ports = std::max(ports, site.port + 1);
  const auto port_ranks = textual_ranks(ports);
  std::vector<std::pair<int64_t, int>> sorted;  // key, site
  sorted.reserve(graph.sites.size());
  for (size_t i = 0; i < graph.sites.size(); ++i) {
    const Site& site = graph.sites[i];
    const int64_t group =
        static_cast<int64_t>(site.kind) * (ports + 1) + (site.port < 0 ? 0 : port_ranks[site.port] + 1);
    sorted.emplace_back(group * static_cast<int64_t>(node_ranks.size()) + node_ranks[site.node], static_cast<int>(i));
  }
  std::sort(sorted.begin(), sorted.end());
  std::vector<int> ranks(sorted.size());
  for (size_t i = 0; i < sorted.size(); ++i) ranks[sorted[i].second] = static_cast<int>(i);
  return ranks;
}

std::vector<int> start_order(const InsertionPointGraph& graph) {
  const auto ranks = site_ranks(graph);
  using Entry = std::pair<int, int>;  // rank, site
  std::priority_queue<Entry, std::vector<Entry>, std::greater<Entry>> ready;
  std::vector<int> missing(graph.sites.size());
  for (size_t i = 0; i < graph.sites.size(); ++i) {
    missing[i] = static_cast<int>(graph.in[static_cast<int>(i)].size());
    if (missing[i] == 0) ready.emplace(ranks[i], static_cast<int>(i));
  }
  std::vector<int> order;
  while (!ready.empty()) {
    const int site = ready.top().second;
    ready.pop();
    order.push_back(site);
    for (int link : graph.out[site]) {
      const int to = graph.to(link);
      if (--missing[to] == 0) ready.emplace(ranks[to], to);
    }
  }
  return order;
}

}  // namespace tsquant::openvino

#include "quantizers/fx/pattern_matches.h"

#include <algorithm>
#include <map>
#include <utility>

#include "graph/params.h"

namespace tsquant::fx {

namespace {

struct ParsedPattern {
  const BackendPatternConfig* config = nullptr;
  std::vector<ObjectType> elements;

  size_t classes() const {
    return std::count_if(elements.begin(), elements.end(),
                         [](const ObjectType& type) { return type.kind == ObjectType::Kind::kClass; });
  }
};

/// In the order in which they are tried.
std::vector<ParsedPattern> parsed(const BackendConfig& backend) {
  std::vector<ParsedPattern> patterns;
  for (const auto& config : backend.configs()) {
    patterns.push_back({&config, {}});
    for (const auto& element : config.pattern) {
      patterns.back().elements.push_back(parse_object_type(element, "backend_config"));
    }
  }
  std::stable_sort(patterns.begin(), patterns.end(), [](const ParsedPattern& a, const ParsedPattern& b) {
    return std::pair(a.elements.size(), a.classes()) > std::pair(b.elements.size(), b.classes());
  });
  return patterns;
}

class Matcher {
 public:
  Matcher(const GraphView& view, const std::vector<OperatorSite>& sites, const MayFuse& may_fuse)
      : view_(view), sites_(sites), may_fuse_(may_fuse), taken_(view.nodes().size(), false) {}

  std::vector<PatternMatch> run(const BackendOf& backend_of) {
    std::vector<PatternMatch> matches;
    for (auto node = view_.nodes().rbegin(); node != view_.nodes().rend(); ++node) {
      if (node->kind != NodeKind::kOperator || taken_[node->id] || sites_[node->id].non_traceable) continue;
      for (const auto& pattern : patterns_of(backend_of(node->id))) {
        auto nodes = match(pattern, node->id);
        if (nodes.empty()) continue;
        for (const int64_t taken : nodes) taken_[taken] = true;
        matches.push_back({pattern.config, std::move(nodes)});
        break;
      }
    }
    std::reverse(matches.begin(), matches.end());
    return matches;
  }

 private:
  const std::vector<ParsedPattern>& patterns_of(const BackendConfig& backend) {
    const auto [place, is_new] = patterns_.try_emplace(&backend);
    if (is_new) place->second = parsed(backend);
    return place->second;
  }

  /// Empty when the pattern does not end at this node.
  std::vector<int64_t> match(const ParsedPattern& pattern, int64_t last) const {
    const auto& elements = pattern.elements;
    if (!fits(sites_[last], elements.back())) return {};
    std::vector<int64_t> nodes{last};
    for (size_t k = elements.size() - 1; k > 0; --k) {
      const int64_t before = element_before(nodes.back(), elements[k - 1]);
      if (before < 0) return {};
      nodes.push_back(before);
    }
    std::reverse(nodes.begin(), nodes.end());
    return nodes;
  }

  /// The operator before a node that fits, has this one reader and is still free; -1: none.
  int64_t element_before(int64_t node, const ObjectType& type) const {
    const ViewNode& reader = view_.node(node);
    // What is added to the result of a layer must be a tensor.
    if (sites_[node].name == "add" && count_tensors(reader) < 2) return -1;
    for (const int64_t id : reader.in_edges) {
      const ViewNode& from = view_.node(view_.edge(id).from);
      const bool is_free = from.kind == NodeKind::kOperator && !taken_[from.id] && !sites_[from.id].non_traceable;
      if (is_free && from.out_edges.size() == 1 && fits(sites_[from.id], type) && may_fuse_(from.id, node)) {
        return from.id;
      }
    }
    return -1;
  }

  int64_t count_tensors(const ViewNode& node) const {
    return std::count_if(node.in_edges.begin(), node.in_edges.end(),
                         [&](int64_t id) { return !is_number(view_, view_.edge(id)); });
  }

  const GraphView& view_;
  const std::vector<OperatorSite>& sites_;
  const MayFuse& may_fuse_;
  std::vector<bool> taken_;
  std::map<const BackendConfig*, std::vector<ParsedPattern>> patterns_;
};

}  // namespace

bool is_number(const GraphView& view, const ViewEdge& edge) {
  if (view.node(edge.from).kind != NodeKind::kParameter) return false;
  const auto constant = param_of(view.model(), edge.value);
  return constant && constant->name.empty() && constant->tensor.dim() == 0;
}

std::vector<PatternMatch> find_matches(const GraphView& view, const std::vector<OperatorSite>& sites,
                                       const BackendOf& backend_of, const MayFuse& may_fuse) {
  return Matcher(view, sites, may_fuse).run(backend_of);
}

}  // namespace tsquant::fx

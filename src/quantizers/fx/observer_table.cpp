#include "quantizers/fx/observer_table.h"

#include <algorithm>
#include <map>
#include <utility>

namespace tsquant::fx {

namespace {

/// What torch.ao compares before it uses an observer again.
bool is_same_kind(const ObserverConfig& a, const ObserverConfig& b) {
  return a.type == b.type && a.fake_quantize == b.fake_quantize && a.dtype == b.dtype && a.is_dynamic == b.is_dynamic;
}

bool is_fixed(const ObserverConfig& config) { return config.type == ObserverType::kFixedQParams; }

}  // namespace

ObserverTable::ObserverTable(const GraphView& view)
    : view_(view),
      outputs_(view.nodes().size(), kNone),
      edges_(view.edges().size(), kNone),
      output_owners_(view.nodes().size(), kNone),
      edge_consumers_(view.edges().size(), kNone),
      of_readers_(view.nodes().size()) {}

int64_t ObserverTable::root(int64_t observer) const {
  while (parents_[observer] != observer) observer = parents_[observer];
  return observer;
}

int64_t ObserverTable::add(const ObserverConfig& config) {
  configs_.push_back(config);
  parents_.push_back(static_cast<int64_t>(parents_.size()));
  return parents_.back();
}

int64_t ObserverTable::of_edge(int64_t edge) const {
  return edges_[edge] != kNone ? edges_[edge] : outputs_[view_.edge(edge).from];
}

void ObserverTable::observe_edge(int64_t edge, const ObserverConfig& config, int64_t consumer) {
  const int64_t producer = view_.edge(edge).from;
  edge_consumers_[edge] = consumer;
  const int64_t output = outputs_[producer];
  // What is quantized at run time is so whatever was quantized before.
  if (output != kNone && configs_[output].dtype == config.dtype && !config.is_dynamic) return;
  auto& known = of_readers_[producer];
  const auto same =
      std::find_if(known.begin(), known.end(), [&](int64_t other) { return is_same_kind(configs_[other], config); });
  edges_[edge] = same == known.end() ? add(config) : *same;
  if (same == known.end()) known.push_back(edges_[edge]);
}

void ObserverTable::observe_output(int64_t node, const ObserverConfig& config, int64_t owner) {
  outputs_[node] = add(config);
  output_owners_[node] = owner;
}

void ObserverTable::join(int64_t kept, int64_t other) {
  kept = root(kept), other = root(other);
  if (kept == other) return;
  if (is_fixed(configs_[kept]) && !is_fixed(configs_[other])) std::swap(kept, other);
  parents_[other] = kept;
}

/// Makes points of a table's observers.
class PointWriter {
 public:
  PointWriter(const ObserverTable& table, Annotations& annotations)
      : table_(table), view_(table.view_), annotations_(annotations) {}

  void run() {
    for (const auto& node : view_.nodes()) {
      if (table_.outputs_[node.id] != ObserverTable::kNone) {
        behind(node, table_.outputs_[node.id], "result of a quantized operator");
      } else if (const int64_t shared = observer_of_all_readers(node); shared != ObserverTable::kNone) {
        behind(node, shared, "read by quantized operators alone");
        continue;
      }
      for (const int64_t edge : node.out_edges) {
        if (table_.edges_[edge] != ObserverTable::kNone) before(view_.edge(edge), table_.edges_[edge], edge);
      }
    }
    for (auto& [observer, ids] : places_) {
      if (ids.size() > 1) annotations_.unified_scale_groups.push_back(std::move(ids));
    }
  }

 private:
  /// Parameters keep a point per reader, for whoever looks for the quantizers of an argument.
  int64_t observer_of_all_readers(const ViewNode& node) const {
    if (node.kind == NodeKind::kParameter || node.out_edges.empty()) return ObserverTable::kNone;
    const int64_t first = table_.edges_[node.out_edges.front()];
    const bool is_one = std::all_of(node.out_edges.begin(), node.out_edges.end(),
                                    [&](int64_t edge) { return table_.edges_[edge] == first; });
    return is_one && first != ObserverTable::kNone && !table_.config(first).is_dynamic ? first : ObserverTable::kNone;
  }

  void behind(const ViewNode& node, int64_t observer, const char* reason) {
    QuantizationPoint& point = add(observer, reason);
    point.node = node.name;
    for (const int64_t edge : node.out_edges) add_asker(point, table_.edge_consumers_[edge]);
    add_asker(point, table_.output_owners_[node.id]);
  }

  void before(const ViewEdge& edge, int64_t observer, int64_t edge_id) {
    QuantizationPoint& point = add(observer, "input of a quantized operator");
    point.node = view_.node(edge.to).name;
    point.input_port = edge.input_port;
    add_asker(point, table_.edge_consumers_[edge_id]);
  }

  void add_asker(QuantizationPoint& point, int64_t node) const {
    if (node == ObserverTable::kNone) return;
    const std::string& name = view_.node(node).name;
    auto& names = point.quantized_nodes;
    if (names.empty() || names.back() != name) names.push_back(name);  // a node may read a tensor twice
  }

  QuantizationPoint& add(int64_t observer, const char* reason) {
    const ObserverConfig& config = table_.config(observer);
    QuantizationPoint point;
    point.id = static_cast<int64_t>(annotations_.points.size()) + 1;
    point.spec = spec_of(config);
    point.spec.limits_of_observer = point.spec.quant_min.has_value() && !point.spec.is_dynamic;
    point.reason = reason;
    if (!config.is_dynamic) places_[table_.root(observer)].push_back(point.id);
    annotations_.points.push_back(std::move(point));
    return annotations_.points.back();
  }

  const ObserverTable& table_;
  const GraphView& view_;
  Annotations& annotations_;
  std::map<int64_t, std::vector<int64_t>> places_;  ///< ids of points by observer
};

void ObserverTable::write(Annotations& annotations) const { PointWriter(*this, annotations).run(); }

}  // namespace tsquant::fx

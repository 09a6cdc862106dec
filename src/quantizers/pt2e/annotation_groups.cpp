#include <algorithm>
#include <map>
#include <numeric>
#include <set>

#include "graph/op_table.h"
#include "quantizers/pt2e/annotation_table.h"
#include "tsquant/error.h"

namespace tsquant::pt2e {

namespace {

/// The attributes that torchao compares before it lets two places of one tensor share (prepare.py,
/// _union_input_edge_with). Observers are not among them.
bool may_share(const QuantizationSpec& a, const QuantizationSpec& b) {
  return a.dtype == b.dtype && a.quant_min == b.quant_min && a.quant_max == b.quant_max && a.mode == b.mode &&
         a.per_channel == b.per_channel && a.ch_axis == b.ch_axis && a.fixed_scale == b.fixed_scale &&
         a.fixed_zero_point == b.fixed_zero_point && a.num_bits == b.num_bits &&
         a.signedness_to_force == b.signedness_to_force && a.narrow_range == b.narrow_range &&
         a.half_range == b.half_range && a.destination_type == b.destination_type;
}

/// Places with their specs, joined to groups (union-find).
class Groups {
 public:
  explicit Groups(const AnnotationTable& table) : view_(table.view()) {
    const auto count = static_cast<int64_t>(view_.nodes().size());
    for (int64_t node = 0; node < count; ++node) {
      for (const auto& [producer, spec] : table.at(node).inputs) add({producer, node}, spec);
      if (table.at(node).output) add({node, -1}, *table.at(node).output);
    }
    parents_.resize(places_.size());
    resolved_.resize(places_.size());
    std::iota(parents_.begin(), parents_.end(), 0);
    share_implicitly();
    for (size_t i = 0; i < places_.size(); ++i) {
      if (const auto* root = std::get_if<Place>(specs_[i])) join(index_of(*root), i);
    }
  }

  struct Group {
    const QuantizationSpec* spec = nullptr;
    std::vector<Place> places;
  };

  /// In the order of each group's first place.
  std::vector<Group> groups() {
    std::map<size_t, size_t> position;
    std::vector<Group> result;
    for (size_t i = 0; i < places_.size(); ++i) {
      const auto [found, is_new] = position.emplace(root_of(i), result.size());
      if (is_new) result.push_back({&resolve(i), {}});
      result[found->second].places.push_back(places_[i]);
    }
    return result;
  }

  bool has_result_quantizer(int64_t node) const { return indices_.count({node, -1}) > 0; }

 private:
  void add(const Place& place, const Spec& spec) {
    indices_.emplace(place, places_.size());
    places_.push_back(place);
    specs_.push_back(&spec);
  }

  size_t index_of(const Place& place) const {
    const auto found = indices_.find(place);
    if (found != indices_.end()) return found->second;
    throw Error(ErrorCode::kInternal, "a shared quantization spec names a place without a quantizer",
                view_.node(place.producer).name);
  }

  /// Follows shared specs to the one that is its own. What was found is kept, so that chains are walked once.
  const QuantizationSpec& resolve(size_t index) {
    std::vector<size_t> chain;
    const QuantizationSpec* spec = nullptr;
    while (!(spec = resolved_[index])) {
      chain.push_back(index);
      if (chain.size() > places_.size()) {
        throw Error(ErrorCode::kInternal, "shared quantization specs name each other in a circle",
                    view_.node(places_[index].producer).name);
      }
      if ((spec = std::get_if<QuantizationSpec>(specs_[index]))) break;
      index = index_of(std::get<Place>(*specs_[index]));
    }
    for (const size_t link : chain) resolved_[link] = spec;
    return *spec;
  }

  size_t root_of(size_t index) {
    while (parents_[index] != index) index = parents_[index] = parents_[parents_[index]];
    return index;
  }

  void join(size_t a, size_t b) {
    a = root_of(a), b = root_of(b);
    parents_[std::max(a, b)] = std::min(a, b);
  }

  /// Places of one tensor with equal specs.
  void share_implicitly() {
    std::map<int64_t, std::vector<size_t>> distinct;  // by producer: one place per spec
    for (size_t i = 0; i < places_.size(); ++i) {
      auto& known = distinct[places_[i].producer];
      const auto same =
          std::find_if(known.begin(), known.end(), [&](size_t other) { return may_share(resolve(other), resolve(i)); });
      if (same == known.end()) {
        known.push_back(i);
      } else {
        join(*same, i);
      }
    }
  }

  const GraphView& view_;
  std::vector<Place> places_;
  std::vector<const Spec*> specs_;
  std::map<Place, size_t> indices_;
  std::vector<size_t> parents_;
  std::vector<const QuantizationSpec*> resolved_;
};

class Translator {
 public:
  Translator(const AnnotationTable& table, std::string quantizer, bool has_global)
      : table_(table), view_(table.view()), quantizer_(std::move(quantizer)), has_global_(has_global), groups_(table) {}

  Annotations run() {
    for (const auto& group : groups_.groups()) {
      std::vector<int64_t> ids;
      std::set<int64_t> whole;                       // producers whose result is quantized for all consumers
      std::map<int64_t, std::set<int64_t>> readers;  // by producer: consumers in the group
      for (const auto& place : group.places) {
        if (place.consumer >= 0) {
          readers[place.producer].insert(place.consumer);
        } else {
          whole.insert(place.producer);
          for (const int64_t user : users_of(view_, place.producer)) readers[place.producer].insert(user);
        }
      }
      for (const auto& [producer, consumers] : readers) {
        add_points(producer, consumers, *group.spec, whole.count(producer) > 0, ids);
      }
      if (ids.size() > 1) result_.unified_scale_groups.push_back(std::move(ids));
    }
    add_refusals();
    return std::move(result_);
  }

 private:
  void add_points(int64_t producer, const std::set<int64_t>& consumers, const QuantizationSpec& spec, bool whole,
                  std::vector<int64_t>& ids) {
    const ViewNode& from = view_.node(producer);
    const bool parameter = from.kind == NodeKind::kParameter;
    if (parameter && is_weight(from, view_.node(*consumers.begin()))) {
      for (const int64_t consumer : consumers) add_before(PointKind::kWeight, producer, consumer, spec, ids);
      return;
    }
    const bool serves_all = whole || !groups_.has_result_quantizer(producer);
    const bool one_tensor = from.value && from.value->type()->isSubtypeOf(*c10::TensorType::get());
    if (serves_all && one_tensor && consumers.size() == users_of(view_, producer).size()) {
      QuantizationPoint point = start(PointKind::kActivation, producer, spec, ids);
      point.node = from.name;
      point.quantized_nodes = who_asked(producer, consumers);
      result_.points.push_back(std::move(point));
      return;
    }
    for (const int64_t consumer : consumers) add_before(PointKind::kActivation, producer, consumer, spec, ids);
  }

  /// A constant may also be an activation: the second input of an addition.
  bool is_weight(const ViewNode& parameter, const ViewNode& consumer) const {
    const auto& ports = consumer.op->weight_ports;
    return std::any_of(consumer.in_edges.begin(), consumer.in_edges.end(), [&](int64_t id) {
      const ViewEdge& edge = view_.edge(id);
      return edge.from == parameter.id && std::find(ports.begin(), ports.end(), edge.input_port) != ports.end();
    });
  }

  void add_before(PointKind kind, int64_t producer, int64_t consumer, const QuantizationSpec& spec,
                  std::vector<int64_t>& ids) {
    const ViewNode& to = view_.node(consumer);
    for (const int64_t id : to.in_edges) {
      const ViewEdge& edge = view_.edge(id);
      if (edge.from != producer || !edge.value->type()->isSubtypeOf(*c10::TensorType::get())) continue;
      QuantizationPoint point = start(kind, producer, spec, ids);
      point.node = to.name;
      point.input_port = edge.input_port;
      point.quantized_nodes = who_asked(producer, {consumer});
      result_.points.push_back(std::move(point));
    }
  }

  QuantizationPoint start(PointKind kind, int64_t producer, const QuantizationSpec& spec, std::vector<int64_t>& ids) {
    QuantizationPoint point;
    point.id = next_id_++;
    point.kind = kind;
    point.spec = spec;
    point.reason = kind == PointKind::kWeight   ? "weight of a pattern of " + quantizer_
                   : table_.at(producer).output ? "result of a pattern of " + quantizer_
                                                : "input of a pattern of " + quantizer_;
    ids.push_back(point.id);
    return point;
  }

  /// The operators in whose pattern the quantizer stands. An operator without annotation only reads the tensor.
  std::vector<std::string> who_asked(int64_t producer, const std::set<int64_t>& consumers) const {
    std::vector<std::string> names;
    for (const int64_t consumer : consumers) {
      const auto& inputs = table_.at(consumer).inputs;
      const bool asked =
          std::any_of(inputs.begin(), inputs.end(), [&](const auto& it) { return it.first == producer; });
      if (asked) names.push_back(view_.node(consumer).name);
    }
    if (table_.at(producer).output) names.push_back(view_.node(producer).name);
    return names;
  }

  void add_refusals() {
    for (const auto& node : view_.nodes()) {
      const NodeAnnotation& annotation = table_.at(node.id);
      if (node.kind != NodeKind::kOperator || (annotation.annotated && !annotation.excluded)) continue;
      if (annotation.excluded) {
        result_.refusals.push_back({node.name, "ignored", "left in float by a configuration"});
      } else if (!has_global_) {
        result_.refusals.push_back(
            {node.name, "not_configured",
             "no configuration was set for it: " + quantizer_ + " has no global one (set_global)"});
      } else {
        result_.refusals.push_back({node.name, "not_quantizable", quantizer_ + " has no pattern for it here"});
      }
    }
  }

  const AnnotationTable& table_;
  const GraphView& view_;
  std::string quantizer_;
  bool has_global_;
  Groups groups_;
  int64_t next_id_ = 1;
  Annotations result_;
};

}  // namespace

Annotations AnnotationTable::finish(const std::string& quantizer, bool has_global) const {
  return Translator(*this, quantizer, has_global).run();
}

}  // namespace tsquant::pt2e

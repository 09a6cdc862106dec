#include <algorithm>
#include <numeric>

#include "graph/op_table.h"
#include "quantizers/id_table.h"
#include "quantizers/pt2e/annotation_table.h"
#include "tsquant/error.h"

namespace tsquant::pt2e {

namespace {

/// The attributes that torchao compares before it lets two places of one tensor share (prepare.py,
/// _union_input_edge_with). Observers are not among them.
bool may_share(const QuantizationSpec& a, const QuantizationSpec& b) {
  return a.dtype == b.dtype && a.quant_min == b.quant_min && a.quant_max == b.quant_max && a.mode == b.mode &&
         a.per_channel == b.per_channel && a.ch_axis == b.ch_axis && a.fixed_scale == b.fixed_scale &&
         a.fixed_zero_point == b.fixed_zero_point && a.format == b.format && a.formula == b.formula &&
         a.signedness_to_force == b.signedness_to_force && a.narrow_range == b.narrow_range &&
         a.half_range == b.half_range && a.group_size == b.group_size && a.group_axis == b.group_axis &&
         a.codebook == b.codebook && a.is_dynamic == b.is_dynamic && a.limits_of_observer == b.limits_of_observer;
}

/// Places with their specs, joined to groups (union-find). The places of a node stand together: those of its inputs,
/// in the order of its annotation, then that of its result.
class Groups {
 public:
  explicit Groups(const AnnotationTable& table) : table_(table), view_(table.view()) {
    const auto count = static_cast<int64_t>(view_.nodes().size());
    first_.reserve(view_.nodes().size());
    for (int64_t node = 0; node < count; ++node) {
      first_.push_back(places_.size());
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

  /// Number of places.
  size_t count() const { return places_.size(); }

  struct Group {
    const QuantizationSpec* spec = nullptr;
    c10::SmallVector<Place, 2> places;
  };

  /// In the order of each group's first place.
  std::vector<Group> groups() {
    constexpr auto kNone = static_cast<size_t>(-1);
    std::vector<size_t> position(places_.size(), kNone);  // by root
    std::vector<Group> result;
    for (size_t i = 0; i < places_.size(); ++i) {
      size_t& group = position[root_of(i)];
      if (group == kNone) {
        group = result.size();
        result.push_back({&resolve(i), {}});
      }
      result[group].places.push_back(places_[i]);
    }
    return result;
  }

 private:
  void add(const Place& place, const Spec& spec) {
    places_.push_back(place);
    specs_.push_back(&spec);
  }

  size_t index_of(const Place& place) const {
    const int64_t node = place.consumer < 0 ? place.producer : place.consumer;
    const NodeAnnotation& annotation = table_.at(node);
    const auto& inputs = annotation.inputs;
    const auto input = std::find_if(inputs.begin(), inputs.end(),
                                    [&](const auto& it) { return place.consumer >= 0 && it.first == place.producer; });
    if (input != inputs.end() || (place.consumer < 0 && annotation.output)) {
      return first_[node] + static_cast<size_t>(input - inputs.begin());
    }
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
    const IdTable by_producer(view_.nodes().size(), places_.size(),
                              [this](int place) { return static_cast<int>(places_[place].producer); });
    c10::SmallVector<size_t, 4> known;  // one place per spec
    for (size_t producer = 0; producer < view_.nodes().size(); ++producer) {
      known.clear();
      for (const int place : by_producer[static_cast<int>(producer)]) {
        const auto i = static_cast<size_t>(place);
        const auto same = std::find_if(known.begin(), known.end(),
                                       [&](size_t other) { return may_share(resolve(other), resolve(i)); });
        if (same == known.end()) {
          known.push_back(i);
        } else {
          join(*same, i);
        }
      }
    }
  }

  const AnnotationTable& table_;
  const GraphView& view_;
  std::vector<Place> places_;
  std::vector<const Spec*> specs_;
  std::vector<size_t> first_;  ///< by node: its first place
  std::vector<size_t> parents_;
  std::vector<const QuantizationSpec*> resolved_;
};

class Translator {
 public:
  Translator(const AnnotationTable& table, std::string quantizer, bool has_global)
      : table_(table), view_(table.view()), quantizer_(std::move(quantizer)), has_global_(has_global), groups_(table) {}

  Annotations run() {
    result_.points.reserve(groups_.count());
    for (const auto& group : groups_.groups()) {
      std::vector<int64_t> ids;
      c10::SmallVector<Place, 8> uses;  // by the group, ascending
      NodeIds whole;                    // ascending: producers whose result is quantized for all consumers
      for (const auto& place : group.places) {
        if (place.consumer >= 0) {
          uses.push_back(place);
        } else {
          whole.push_back(place.producer);
          for (const int64_t user : users_of(view_, place.producer)) uses.push_back({place.producer, user});
        }
      }
      std::sort(uses.begin(), uses.end());
      for (auto use = uses.begin(); use != uses.end();) {
        const int64_t producer = use->producer;
        NodeIds consumers;
        for (; use != uses.end() && use->producer == producer; ++use) {
          if (consumers.empty() || consumers.back() != use->consumer) consumers.push_back(use->consumer);
        }
        const bool is_whole = std::binary_search(whole.begin(), whole.end(), producer);
        add_points(producer, consumers, *group.spec, is_whole, ids);
      }
      if (ids.size() > 1) result_.unified_scale_groups.push_back(std::move(ids));
    }
    add_refusals();
    return std::move(result_);
  }

 private:
  void add_points(int64_t producer, c10::ArrayRef<int64_t> consumers, const QuantizationSpec& spec, bool whole,
                  std::vector<int64_t>& ids) {
    const ViewNode& from = view_.node(producer);
    const bool parameter = from.kind == NodeKind::kParameter;
    if (parameter && is_weight(from, view_.node(consumers.front()))) {
      for (const int64_t consumer : consumers) add_before(PointKind::kWeight, producer, consumer, spec, ids);
      return;
    }
    const bool serves_all = whole || !table_.at(producer).output;
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
  std::vector<std::string> who_asked(int64_t producer, c10::ArrayRef<int64_t> consumers) const {
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

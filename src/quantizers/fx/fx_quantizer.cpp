#include "tsquant/fx/fx_quantizer.h"

#include <fmt/format.h>

#include <algorithm>

#include "graph/carried_state.h"
#include "graph/params.h"
#include "quantizers/fx/fitting_types.h"
#include "quantizers/fx/match_plans.h"
#include "quantizers/fx/observer_table.h"
#include "tsquant/error.h"

namespace tsquant::fx {

namespace {

/// torch/ao/quantization/fx/prepare.py, insert_observers_for_model.
class Placement {
 public:
  Placement(const GraphView& view, const GraphPlan& plan, const PrepareCustomConfig& custom)
      : view_(view), plan_(plan), custom_(custom), observers_(view) {}

  Annotations run() {
    find_quantized_inputs();
    find_quantized_results();
    for (const auto& node : view_.nodes()) {
      if (node.kind == NodeKind::kOutput) observe_model_output(node);
      const MatchPlan* plan = node.kind == NodeKind::kOperator ? plan_.plan_of(node.id) : nullptr;
      if (plan && plan->types) place(node, *plan);
    }
    observers_.write(result_);
    write_weights();
    write_refusals();
    return std::move(result_);
  }

 private:
  void find_quantized_inputs() {
    std::vector<int64_t> inputs;
    for (const auto& node : view_.nodes()) {
      if (node.kind == NodeKind::kInput) inputs.push_back(node.id);
    }
    for (const int64_t index : custom_.input_quantized_indexes()) {
      if (index >= static_cast<int64_t>(inputs.size())) {
        throw Error(ErrorCode::kInvalidArgument,
                    fmt::format("input {} is to be quantized, but the model has {}", index, inputs.size()),
                    "set_input_quantized_indexes", "count tensor inputs from 0");
      }
      quantized_inputs_.push_back(inputs[index]);
    }
  }

  /// What standalone modules give as codes is observed by them.
  void find_quantized_results() {
    for (const auto& plan : plan_.plans()) {
      const bool gives_codes = plan.standalone && !plan.standalone->output_quantized_indexes().empty();
      if (gives_codes) quantized_inputs_.push_back(plan.match.nodes.front());
    }
  }

  /// Arguments that a standalone module takes as codes.
  void place_standalone(const ViewNode& node, const MatchPlan& plan) {
    for (const int64_t index : plan.standalone->input_quantized_indexes()) {
      for (const int64_t edge : node.in_edges) {
        const bool is_argument = view_.edge(edge).use.offset == static_cast<size_t>(index) + 1;  // after the module
        if (is_argument) observe(edge, plan, node.id);
      }
    }
  }

  void place(const ViewNode& node, const MatchPlan& plan) {
    if (plan.standalone) return place_standalone(node, plan);
    const bool is_first = node.id == plan.match.nodes.front(), is_last = node.id == plan.match.nodes.back();
    const auto inputs = activations_of(node, plan);
    const ObservationType type = observation_type(plan);
    if (type == ObservationType::kInputOutputNotObserved) return;
    if (c10::isFloatingType(plan.qconfig.activation.dtype)) return;  // the weight alone is quantized
    // The recurrence computes in float here, so codes of its input would cost accuracy and gain nothing.
    if (is_recurrent(node)) return;
    if (plan.input.is_dynamic) {
      if (is_first && !inputs.empty()) observe(inputs.front(), plan, node.id);
      return;
    }
    if (plan.has_input) {
      for (const int64_t edge : inputs) observe(edge, plan, node.id);
    }
    if (!is_last || !is_observable(node.value, node.info)) return;
    observers_.observe_output(node.id, plan.qconfig.activation, plan.match.nodes.front());
    if (type == ObservationType::kOutputShareObserverWithInput || plan.reuses_input()) {
      share(node, activations_of(view_.node(plan.match.nodes.front()), plan));
    }
  }

  /// For chains the first operator decides.
  ObservationType observation_type(const MatchPlan& plan) const {
    const auto& types = plan.match.config->num_tensor_args_to_observation_type;
    if (types.empty()) return plan.match.config->observation_type;
    const size_t tensors = activations_of(view_.node(plan.match.nodes.front()), plan).size();
    if (tensors == 0) return ObservationType::kInputOutputNotObserved;
    const auto known = types.find(static_cast<int64_t>(tensors));
    return known == types.end() ? plan.match.config->observation_type : known->second;
  }

  static bool is_observable(const torch::jit::Value* value, const TensorInfo& info) {
    return value && value->type()->isSubtypeOf(*c10::TensorType::get()) && (!info.known || info.is_floating());
  }

  /// The edges on which a pattern's operator reads activations from outside of the pattern.
  std::vector<int64_t> activations_of(const ViewNode& node, const MatchPlan& plan) const {
    const auto& nodes = plan.match.nodes;
    const auto& indices = plan.match.config->input_type_to_index;
    std::vector<int64_t> found;
    for (const int64_t id : node.in_edges) {
      const ViewEdge& edge = view_.edge(id);
      const bool is_inside = std::find(nodes.begin(), nodes.end(), edge.from) != nodes.end();
      const bool is_other =
          node.id == nodes.front() &&
          std::any_of(indices.begin(), indices.end(), [&](const auto& it) { return it.second == edge.input_port; });
      const bool is_parameter = view_.node(edge.from).kind == NodeKind::kParameter;
      const bool is_of_layer = is_parameter && (plan_.site(node.id).in_layer || !indices.empty());
      if (is_inside || is_other || is_of_layer || is_number(view_, edge)) continue;
      if (is_observable(edge.value, edge.info)) found.push_back(id);
    }
    return found;
  }

  bool is_quantized_input(int64_t node) const {
    return std::find(quantized_inputs_.begin(), quantized_inputs_.end(), node) != quantized_inputs_.end();
  }

  void observe(int64_t edge, const MatchPlan& plan, int64_t consumer) {
    if (!is_quantized_input(view_.edge(edge).from)) observers_.observe_edge(edge, plan.input, consumer);
  }

  /// The result, and all inputs of a list, get the observer of the first input; without one the result has none.
  void share(const ViewNode& node, const std::vector<int64_t>& inputs) {
    if (!inputs.empty() && is_quantized_input(view_.edge(inputs.front()).from)) return;
    const int64_t first = inputs.empty() ? ObserverTable::kNone : observers_.of_edge(inputs.front());
    if (first == ObserverTable::kNone) return observers_.remove_output(node.id);
    for (const int64_t edge : inputs) {
      if (observers_.of_edge(edge) != ObserverTable::kNone) observers_.join(first, observers_.of_edge(edge));
    }
    observers_.join(first, observers_.of_output(node.id));
  }

  void observe_model_output(const ViewNode& output) {
    if (custom_.output_quantized_indexes().empty()) return;
    constexpr const char* kPlace = "set_output_quantized_indexes";
    if (output.in_edges.size() != 1) {
      throw Error(
          ErrorCode::kInvalidArgument,
          fmt::format("the output is to be quantized, but the model returns {} tensors", output.in_edges.size()),
          kPlace, "leave it in float");
    }
    const int64_t edge = output.in_edges.front();
    const ViewNode& producer = view_.node(view_.edge(edge).from);
    const bool has_qconfig = producer.kind == NodeKind::kOperator && plan_.qconfig(producer.id);
    if (!has_qconfig) {
      throw Error(ErrorCode::kInvalidArgument, "the output is to be quantized, but what makes it has no qconfig",
                  producer.name, "give it one, or leave the output in float");
    }
    observers_.observe_edge(edge, plan_.qconfig(producer.id)->activation, producer.id);
  }

  void write_weights() {
    for (const auto& plan : plan_.plans()) {
      const auto index = plan.match.config->input_type_to_index.find("weight");
      if (!plan.types || !quantizes_weight(*plan.types)) continue;
      const ViewNode& layer = view_.node(plan.match.nodes.front());
      if (is_recurrent(layer)) {
        write_recurrent_weights(layer, plan);
      } else if (index != plan.match.config->input_type_to_index.end()) {
        if (const ViewEdge* edge = view_.input_edge(layer, index->second)) write_weight(layer, *edge, plan);
      }
    }
  }

  void write_weight(const ViewNode& layer, const ViewEdge& edge, const MatchPlan& plan) {
    QuantizationPoint point;
    point.id = static_cast<int64_t>(result_.points.size()) + 1;
    // A weight that the model computes is an activation with the weight's observer.
    const bool is_parameter = view_.node(edge.from).kind == NodeKind::kParameter;
    point.kind = is_parameter ? PointKind::kWeight : PointKind::kActivation;
    point.node = layer.name;
    point.input_port = edge.input_port;
    point.spec = spec_of(plan.qconfig.weight);
    point.quantized_nodes = {layer.name};
    point.reason = "weight of a quantized operator";
    result_.points.push_back(std::move(point));
  }

  /// The matrices of all gates, layers and directions; biases stay in float.
  void write_recurrent_weights(const ViewNode& layer, const MatchPlan& plan) {
    for (const int64_t id : layer.in_edges) {
      const ViewEdge& edge = view_.edge(id);
      const auto parameter = param_of(view_.model(), edge.value);
      if (parameter && parameter->tensor.dim() == 2) write_weight(layer, edge, plan);
    }
  }

  void write_refusals() {
    for (const auto& node : view_.nodes()) {
      if (node.kind != NodeKind::kOperator) continue;
      const MatchPlan* plan = plan_.plan_of(node.id);
      if (!plan) {
        result_.refusals.push_back(plan_.site(node.id).non_traceable
                                       ? Refusal{node.name, "non_traceable", "a configuration leaves its module alone"}
                                       : Refusal{node.name, "not_quantizable", "the backend has no pattern for it"});
      } else if (!plan->types) {
        result_.refusals.push_back({node.name, plan->refusal.code, plan->refusal.reason});
      } else if (node.id != plan->match.nodes.front()) {
        const std::string& first = view_.node(plan->match.nodes.front()).name;
        result_.refusals.push_back({node.name, "fused", "runs inside " + first});
      }
    }
  }

  const GraphView& view_;
  const GraphPlan& plan_;
  const PrepareCustomConfig& custom_;
  ObserverTable observers_;
  std::vector<int64_t> quantized_inputs_;
  Annotations result_;
};

}  // namespace

FxQuantizer::FxQuantizer(QConfigMapping mapping, PrepareCustomConfig custom, BackendConfig backend)
    : mapping_(std::move(mapping)), custom_(std::move(custom)), backend_(std::move(backend)) {}

Annotations FxQuantizer::annotate(const GraphView& view) const {
  const ParamScope scope(view.model());
  const GraphPlan plan(view, mapping_, custom_, backend_);
  return Placement(view, plan, custom_).run();
}

QuantizerDescription FxQuantizer::describe() const {
  const std::string mapping = mapping_.to_json();
  return {"fx", {{"backend", backend_.name()}, {"qconfig_mapping", mapping}}, {{"qconfig_mapping", mapping}}};
}

}  // namespace tsquant::fx

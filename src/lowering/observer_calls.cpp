#include "lowering/observer_calls.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <unordered_map>

#include "graph/attribute_slots.h"
#include "graph/insert_op.h"
#include "graph/mutation.h"
#include "graph/node_lists.h"
#include "graph/params.h"
#include "lowering/point_place.h"
#include "tsquant/observer_module.h"

namespace tsquant {

namespace {

using torch::jit::Module;
using torch::jit::Node;
using torch::jit::Use;
using torch::jit::Value;

const std::string kPrefix = "activation_post_process_";

bool is_observed(const QuantizationPoint& point) {
  return point.kind == PointKind::kActivation || point.spec.fake_quantize != FakeQuantizeType::kNone;
}

/// While training, what is computed from each tensor at run time is fake-quantized by the range of each batch.
ObserverConfig config_of(const QuantizationPoint& point) {
  QuantizationSpec spec = point.spec;
  if (spec.is_dynamic && spec.fake_quantize != FakeQuantizeType::kNone) {
    spec.is_dynamic = false;
    spec.observer = ObserverKind::kMovingAverageMinMax;
    spec.averaging_constant = 1;
  }
  return observer_config_of(spec, point.kind);
}

/// One call, planned before the graph is edited.
struct PlannedCall {
  std::string module;
  Value* value;
  std::vector<Use> uses;  ///< empty: all after the value
};

class ObserverInserter {
 public:
  ObserverInserter(Model& model, const GraphView& view, ObserverNames& names)
      : model_(model), view_(view), names_(names), mutation_(model.graph()) {}

  void use_one_module(const std::vector<int64_t>& group) {
    for (const int64_t id : group) leader_[id] = group.front();
  }

  /// A refusal when the point cannot be inserted.
  c10::optional<std::string> plan(const QuantizationPoint& point) {
    const PointPlace place = place_in_graph(view_, point);
    if (!place.value) return std::string("the operator gives no tensor");
    const bool is_parameter = place_is_parameter(place);
    if (!is_parameter && mutation_.is_written_later(place.value)) {
      return std::string("the tensor is changed in place after it was produced");
    }
    if (place.uses.empty()) {
      plan_call(point, place.value, {});
    } else {
      for (const Use& use : place.uses) plan_call(point, use.user->input(use.offset), {use});
    }
    return c10::nullopt;
  }

  bool apply() {
    for (const auto& call : calls_) {
      if (!call.uses.empty()) insert_before(call);
    }
    for (const auto& call : calls_) {
      if (call.uses.empty()) insert_after(call);
    }
    return !calls_.empty();
  }

 private:
  bool place_is_parameter(const PointPlace& place) const { return param_of(model_, place.value).has_value(); }

  /// Points that say the same about one tensor share a module and its call.
  void plan_call(const QuantizationPoint& point, Value* value, const std::vector<Use>& uses) {
    const std::string module = module_for(point, value);
    for (auto& call : calls_) {
      if (call.value != value || call.module != module || call.uses.empty() != uses.empty()) continue;
      call.uses.insert(call.uses.end(), uses.begin(), uses.end());
      return;
    }
    calls_.push_back({module, value, uses});
  }

  const std::string& module_for(const QuantizationPoint& point, const Value* value) {
    const auto leader = leader_.find(point.id);
    auto& name = leader == leader_.end() ? names_[point.id] : of_group_[leader->second];
    if (name.empty() && leader == leader_.end()) name = known_module(point, value);
    if (name.empty()) {
      name = kPrefix + std::to_string(count_++);
      model_.module().register_module(name, make_observer_module(config_of(point), unit()));
      if (leader == leader_.end()) of_tensor_[value].emplace_back(point.spec, name);
    }
    names_[point.id] = name;
    return names_[point.id];
  }

  std::string known_module(const QuantizationPoint& point, const Value* value) const {
    const auto known = of_tensor_.find(value);
    if (known == of_tensor_.end()) return "";
    for (const auto& [spec, name] : known->second) {
      if (spec == point.spec) return name;
    }
    return "";
  }

  std::shared_ptr<torch::jit::CompilationUnit> unit() const { return model_.module()._ivalue()->compilation_unit(); }

  /// %o = prim::GetAttr[name="activation_post_process_0"](%self); %y = prim::CallMethod[name="forward"](%o, %x)
  Value* insert_call(Node* before, const std::string& module, Value* value) {
    auto graph = model_.graph();
    torch::jit::WithInsertPoint guard(before);
    Value* object = graph->insertGetAttr(graph->inputs().at(0), module);
    Value* result = insert_op(*graph, "prim::CallMethod", {object, value});
    result->node()->s_(c10::attr::name, "forward");
    return result;
  }

  void insert_before(const PlannedCall& call) {
    Value* result = insert_call(node_before(call.value, call.uses), call.module, call.value);
    for (const Use& use : call.uses) use.user->replaceInput(use.offset, result);
  }

  void insert_after(const PlannedCall& call) {
    Value* result = insert_call(node_after(call.value), call.module, call.value);
    call.value->replaceAllUsesAfterNodeWith(result->node(), result);
  }

  Model& model_;
  const GraphView& view_;
  ObserverNames& names_;
  MutationAnalysis mutation_;
  int64_t count_ = 0;
  std::map<int64_t, int64_t> leader_;        ///< of the unified group, by point
  std::map<int64_t, std::string> of_group_;  ///< module by leader
  std::unordered_map<const Value*, std::vector<std::pair<QuantizationSpec, std::string>>> of_tensor_;
  std::vector<PlannedCall> calls_;
};

/// Points become refusals of the operators that asked for them.
void refuse(Annotations& annotations, const std::map<int64_t, std::string>& refused) {
  for (const auto& [id, reason] : refused) {
    const auto* point = annotations.find(id);
    auto nodes = point->quantized_nodes;
    if (nodes.empty()) nodes.push_back(point->node);
    for (const auto& node : nodes) annotations.refusals.push_back({node, "written_in_place", reason});
  }
  const auto is_refused = [&](int64_t id) { return refused.count(id) > 0; };
  auto& points = annotations.points;
  points.erase(std::remove_if(points.begin(), points.end(), [&](const auto& point) { return is_refused(point.id); }),
               points.end());
  for (auto& group : annotations.unified_scale_groups) {
    group.erase(std::remove_if(group.begin(), group.end(), is_refused), group.end());
  }
}

}  // namespace

bool insert_observers(Model& model, const GraphView& view, Annotations& annotations, ObserverNames& names) {
  ObserverInserter inserter(model, view, names);
  for (const auto& group : annotations.unified_scale_groups) inserter.use_one_module(group);
  std::map<int64_t, std::string> refused;
  for (const auto& point : annotations.points) {
    if (!is_observed(point)) continue;
    if (const auto reason = inserter.plan(point)) refused[point.id] = *reason;
  }
  refuse(annotations, refused);
  return inserter.apply();
}

std::map<std::string, Module> remove_observers(Module& module) {
  std::map<std::string, Module> observers;
  auto graph = module.get_method("forward").graph();
  for (Node* call : nodes_of_kind(graph->block(), {"prim::CallMethod"})) {
    Node* object = call->input(0)->node();
    if (object->kind() != c10::prim::GetAttr || object->s(c10::attr::name).rfind(kPrefix, 0) != 0) continue;
    const std::string name = object->s(c10::attr::name);
    observers.emplace(name, module.attr(name).toModule());
    call->output()->replaceAllUsesWith(call->input(1));
    call->destroy();
    if (!object->hasUses()) object->destroy();
  }
  for (const auto& observer : observers) remove_attribute(module, observer.first);
  return observers;
}

}  // namespace tsquant

#include "lowering/observer_calls.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <unordered_map>

#include "graph/attribute_slots.h"
#include "graph/module_calls.h"
#include "graph/mutation.h"
#include "lowering/point_place.h"
#include "tsquant/observer_module.h"

namespace tsquant {

namespace {

using torch::jit::Module;
using torch::jit::Node;
using torch::jit::Use;
using torch::jit::Value;

const std::string kObserverPrefix = "activation_post_process_";

bool is_observed(const QuantizationPoint& point) {
  return point.kind == PointKind::kActivation || point.spec.fake_quantize != FakeQuantizeType::kNone;
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

  /// Why the point cannot be inserted; none when it can.
  c10::optional<Refusal> plan(const QuantizationPoint& point) {
    const PointPlace place = place_in_graph(view_, point);
    if (!place.value) return c10::nullopt;
    if (auto fault = fault_of(model_, view_, mutation_, place.value)) return fault;
    if (place.uses.empty()) plan_call(point, place.value, {});
    for (const Use& use : place.uses) plan_call(point, use.user->input(use.offset), {use});
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
      name = kObserverPrefix + std::to_string(count_++);
      model_.module().register_module(name, make_observer_module(observer_config_of(point.spec, point.kind), unit()));
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

  Value* insert_call(Node* before, const PlannedCall& call) {
    torch::jit::WithInsertPoint guard(before);
    return insert_module_call(*model_.graph(), call.module, {call.value});
  }

  void insert_before(const PlannedCall& call) {
    Value* result = insert_call(node_before(call.value, call.uses), call);
    for (const Use& use : call.uses) use.user->replaceInput(use.offset, result);
  }

  void insert_after(const PlannedCall& call) {
    Value* result = insert_call(node_after(call.value), call);
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

}  // namespace

bool insert_observers(Model& model, const GraphView& view, Annotations& annotations, ObserverNames& names) {
  ObserverInserter inserter(model, view, names);
  for (const auto& group : annotations.unified_scale_groups) inserter.use_one_module(group);
  std::set<int64_t> refused;
  for (const auto& point : annotations.points) {
    const auto fault = is_observed(point) ? inserter.plan(point) : c10::nullopt;
    if (!fault) continue;
    refuse_point(point, *fault, annotations.refusals);
    refused.insert(point.id);
  }
  remove_points(annotations, refused);
  return inserter.apply();
}

std::map<std::string, Module> remove_observers(Module& module) {
  std::map<std::string, Module> observers;
  auto graph = module.get_method("forward").graph();
  for (const auto& [call, name] : module_calls(*graph, kObserverPrefix)) {
    observers.emplace(name, module.attr(name).toModule());
    call->output()->replaceAllUsesWith(call->input(1));
    remove_module_call(call);
  }
  for (const auto& observer : observers) remove_attribute(module, observer.first);
  return observers;
}

}  // namespace tsquant

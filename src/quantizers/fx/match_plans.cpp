#include "quantizers/fx/match_plans.h"

#include <fmt/format.h>

#include "graph/module_calls.h"
#include "graph/weighted_layer.h"
#include "quantizers/fx/custom_types.h"
#include "quantizers/fx/fitting_types.h"
#include "tsquant/error.h"

namespace tsquant::fx {

namespace {

/// torch.ao's modules for a layer and what is fused to it have these at their end.
bool is_activation(const std::string& name) { return name == "relu" || name == "leaky_relu" || name == "tanh"; }

bool is_per_channel(const ObserverConfig& observer) {
  return observer.qscheme == c10::kPerChannelSymmetric || observer.qscheme == c10::kPerChannelAffine;
}

/// Types of codes that our specs cannot say. Empty for others.
Refusal beyond_specs(const QConfig& qconfig) {
  if (qconfig.activation.dtype == c10::kHalf && !qconfig.activation.is_dynamic) {
    return {"", "float16", "its qconfig asks for a float16 operator: only weights are stored in float16"};
  }
  return {};
}

}  // namespace

GraphPlan::GraphPlan(const GraphView& view, const QConfigMapping& mapping, const PrepareCustomConfig& custom,
                     const BackendConfig& backend)
    : view_(view), sites_(view, custom), qconfigs_(view.nodes().size()), plan_of_(view.nodes().size(), -1) {
  const auto modules = submodules_of(view.model());
  for (const auto& entry : mapping.module_name_qconfigs()) require_submodule(modules, entry.first, "set_module_name");
  for (const auto& entry : mapping.module_name_object_type_order_qconfigs()) {
    require_submodule(modules, entry.first.module_name, "set_module_name_object_type_order");
  }
  rules_.emplace_back(mapping);
  for (const auto& [module, config] : sites_.standalone) {
    QConfigMapping inner;
    inner.set_global(rules_.front().of_module(module));
    rules_.emplace_back(config->qconfig_mapping.value_or(inner), module.path);
  }
  require_kept_apart();
  read_qconfigs();
  // What is inside of standalone modules is beyond the reach of the mapping.
  if (sites_.standalone.empty()) rules_.front().require_used(modules);
  const auto backend_of = [&](int64_t node) -> const BackendConfig& {
    const int64_t standalone = site(node).standalone;
    const auto* own = standalone < 0 ? nullptr : &sites_.standalone[standalone].config->backend_config;
    return own && *own ? **own : backend;
  };
  const auto fuses = [&](int64_t producer, int64_t consumer) { return may_fuse(producer, consumer); };
  for (auto& match : find_matches(view, sites_.sites, backend_of, fuses)) {
    for (const int64_t node : match.nodes) plan_of_[node] = static_cast<int64_t>(plans_.size());
    plans_.push_back(plan(std::move(match)));
  }
  for (const auto& node : view.nodes()) {
    if (node.kind != NodeKind::kOperator || !site(node.id).is_custom) continue;
    plan_of_[node.id] = static_cast<int64_t>(plans_.size());
    plans_.push_back(plan_custom(node.id));
  }
}

/// In a graph that holds what is in it, a standalone module cannot have a configuration of its own.
void GraphPlan::require_kept_apart() const {
  for (const auto& node : view_.nodes()) {
    if (node.kind != NodeKind::kOperator || site(node.id).standalone < 0) continue;
    const auto& [module, config] = sites_.standalone[site(node.id).standalone];
    if (!config->prepare_custom_config) continue;
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("standalone module \"{}\" has a prepare_custom_config", module.path), "FxQuantizer",
                "use prepare_fx, which prepares such modules for themselves");
  }
}

void GraphPlan::read_qconfigs() {
  for (const auto& node : view_.nodes()) {
    if (node.kind != NodeKind::kOperator) continue;
    qconfigs_[node.id] = rules_[site(node.id).standalone + 1].next(site(node.id));
  }
}

/// A layer and the activation behind it become one module, whose qconfig is the layer's. Functions need equal ones.
bool GraphPlan::may_fuse(int64_t producer, int64_t consumer) const {
  if (site(producer).standalone != site(consumer).standalone) return false;
  return (site(producer).in_layer && is_activation(site(consumer).name)) || qconfigs_[producer] == qconfigs_[consumer];
}

void GraphPlan::check_types(const PatternMatch& match) const {
  const int64_t layer = match.nodes.front(), next = match.nodes.back();
  if (layer == next || !site(layer).in_layer || !site(next).in_layer || site(next).name != "relu") return;
  if (rules_of(layer).by_type(site(layer)) == rules_of(next).by_type(site(next))) return;
  throw Error(ErrorCode::kInvalidArgument,
              fmt::format("{} and {} are computed as one, but the mapping has different qconfigs for {} and {}",
                          view_.node(layer).name, view_.node(next).name, site(layer).name, site(next).name),
              "set_object_type", "set the same qconfig for both types");
}

void GraphPlan::check_fixed_range(const PatternMatch& match, const QConfig& qconfig) const {
  const DTypeWithConstraints* type = fixed_output(*match.config);
  const ObserverConfig& activation = qconfig.activation;
  const bool is_other = activation.is_dynamic || activation.dtype == c10::kHalf || activation.dtype == c10::kFloat;
  if (!type || is_other || is_fixed_to(activation, *type)) return;
  throw Error(ErrorCode::kInvalidArgument,
              fmt::format("the qconfig of an operator with a fixed range has another observer than scale {}, "
                          "zero_point {}",
                          *type->scale_exact_match, *type->zero_point_exact_match),
              view_.node(match.nodes.front()).name,
              "start from get_default_qconfig_mapping, which has the observers of such operators");
}

void GraphPlan::check_weight(int64_t node, const MatchPlan& plan) const {
  if (layer_kind(view_.node(node).node) != LayerKind::kTransposedConvolution) return;
  if (!is_per_channel(plan.qconfig.weight)) return;
  throw Error(ErrorCode::kInvalidArgument, "weights per channel are not supported for transposed convolutions",
              view_.node(node).name,
              fmt::format("set a qconfig with a per-tensor weight for \"{}\", for example default_qconfig().weight",
                          site(node).name));
}

/// Weights with floating-point zero points, and float16 ones, are stored; nothing computes such while the model runs.
bool GraphPlan::computes_stored_weight(int64_t node, const BackendPatternConfig& config, const QConfig& qconfig) const {
  const auto index = config.input_type_to_index.find("weight");
  const bool is_stored =
      qconfig.weight.qscheme == c10::kPerChannelAffineFloatQParams || qconfig.weight.dtype == c10::kHalf;
  if (!is_stored || index == config.input_type_to_index.end()) return false;
  const ViewEdge* edge = view_.input_edge(view_.node(node), index->second);
  return edge && view_.node(edge->from).kind != NodeKind::kParameter;
}

void GraphPlan::set_input(MatchPlan& plan) const {
  plan.input = plan.qconfig.activation;
  plan.has_input = !plan.reuses_input();
  if (plan.input.type != ObserverType::kFixedQParams) return;
  const auto& global = rules_of(plan.match.nodes.front()).global_qconfig();
  plan.has_input = global && fitting_types(*plan.match.config, *global).config;
  if (plan.has_input) plan.input = global->activation;
}

/// Null for another operator than the call of a standalone module.
const PrepareCustomConfig* GraphPlan::standalone_config(int64_t node) const {
  for (const auto& [module, config] : sites_.standalone) {
    if (module.path == site(node).module_path) return config->prepare_custom_config.get();
  }
  return nullptr;
}

/// What goes into a custom module and what comes out is observed when its qconfig is static: torch.ao's
/// CustomModuleQuantizeHandler.
MatchPlan GraphPlan::plan_custom(int64_t node) const {
  static const BackendPatternConfig config({kOpaqueFunction});
  static const DTypeConfig types;
  MatchPlan plan;
  plan.match = {&config, {node}};
  plan.standalone = standalone_config(node);
  const OptionalQConfig& qconfig = qconfigs_[node];
  if (!qconfig || custom_quant_type(*qconfig) != QuantType::kStatic) {
    plan.refusal = {"", "custom_module", "its own code decides what is quantized in it"};
    return plan;
  }
  if (plan.standalone && plan.standalone->input_quantized_indexes().empty()) {
    plan.refusal = {"", "standalone", "quantized for itself, takes floats"};
    return plan;
  }
  plan.types = &types;
  plan.qconfig = *qconfig;
  plan.input = qconfig->activation;
  plan.has_input = !plan.reuses_input();
  return plan;
}

MatchPlan GraphPlan::plan(PatternMatch match) const {
  MatchPlan plan;
  plan.match = std::move(match);
  const int64_t first = plan.match.nodes.front();
  check_types(plan.match);
  const OptionalQConfig& qconfig = qconfigs_[first];
  if (!qconfig) {
    plan.refusal = {"", "ignored", "left in float: the mapping has no qconfig for it"};
    return plan;
  }
  check_fixed_range(plan.match, *qconfig);
  const FittingTypes fitting = fitting_types(*plan.match.config, *qconfig);
  if (!fitting.config) {
    plan.refusal = {"", "unsupported_dtypes", "left in float: " + fitting.reason};
    return plan;
  }
  plan.refusal = beyond_specs(*qconfig);
  if (!plan.refusal.code.empty()) return plan;
  if (computes_stored_weight(first, *plan.match.config, *qconfig)) {
    plan.refusal = {"", "computed_weight", "the model computes its weight, and only stored ones can have this type"};
    return plan;
  }
  plan.types = fitting.config;
  plan.qconfig = *qconfig;
  check_weight(first, plan);
  set_input(plan);
  return plan;
}

}  // namespace tsquant::fx

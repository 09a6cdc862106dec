#include <set>

#include "lowering/engines/cost_model.h"
#include "lowering/engines/engine_check.h"
#include "lowering/engines/lowering_context.h"
#include "lowering/engines/trial.h"
#include "lowering/lowering.h"
#include "passes/rewrite_runner.h"
#include "tsquant/engine.h"
#include "tsquant/error.h"

namespace tsquant {

namespace {

/// Trials after which an operator that still fails takes all others of its kind with it.
constexpr int kMostTrials = 12;

struct Step {
  const char* name;
  bool (*run)(LoweringContext& context);
};

const std::vector<Step>& steps() {
  static const std::vector<Step> all = {
#define TSQUANT_LOWERING_STEP(name, ...) {#name, name},
#include "passes/registry.inc"
  };
  return all;
}

/// What is decided once and used for every graph that is lowered.
struct Plan {
  const Engine& engine;
  RewriteRunner& runner;
  const Sample& probe;
};

/// Lowers a copy, on which something is tried out; its report goes with it.
void lower_copy(LoweringContext& context, const Plan& plan) {
  for (const Step& step : steps()) {
    if (!plan.runner.skips(step.name)) step.run(context);
  }
}

/// Rates to judge by; none: everything is lowered.
std::vector<CostRates> rates_for(LoweringCost cost) {
  if (cost == LoweringCost::kOff) return {};
  return cost == LoweringCost::kMeasure ? std::vector<CostRates>{measure_costs()} : cost_table();
}

/// Lowers a copy and asks where float is faster.
FloatIslands find_slow_islands(const Plan& plan, const ReferenceRun& reference, const Report& report,
                               const std::vector<CostRates>& rates) {
  if (rates.empty()) return {};
  Model copy = plan.runner.model().clone();
  Report unused = report;
  const KeptValues none;
  LoweringContext context(copy, plan.engine, reference, none, unused);
  lower_copy(context, plan);
  return find_float_islands(context, rates);
}

/// The kind of the operator that a value of the reference form comes from, through its quantizer and bounds.
c10::Symbol kind_behind(const torch::jit::Value* value) {
  const torch::jit::Node* node = value->node();
  const auto is_behind = [](const torch::jit::Node* n) { return is_quantizer(n) || is_clamp(n); };
  while (is_behind(node)) node = node->input(0)->node();
  return node->kind();
}

/// Adds the values of all operators of the same kinds, with one reason.
void keep_kinds(const torch::jit::Graph& graph, const KeptValues& found, KeptValues& kept) {
  std::set<c10::Symbol> kinds;
  const auto numbers = number_values(graph);
  for (const auto& [value, number] : numbers) {
    if (found.count(number) > 0) kinds.insert(kind_behind(value));
  }
  for (const auto& [value, number] : numbers) {
    if (kinds.count(kind_behind(value)) > 0) kept.emplace(number, "other operators of this kind fail in the engine");
  }
}

/// Lowers copies until what runs is what the reference form computes. An operator that deviates or fails stays as Q/DQ
/// alone.
KeptValues find_kept(const Plan& plan, const ReferenceRun& reference, const Report& report) {
  KeptValues kept;
  for (int trial = 0;; ++trial) {
    Model copy = plan.runner.model().clone();
    Report unused = report;
    LoweringContext context(copy, plan.engine, reference, kept, unused);
    lower_copy(context, plan);
    const KeptValues found = try_out(copy, context, plan.probe);
    const size_t before = kept.size();
    kept.insert(found.begin(), found.end());
    if (kept.size() == before) return kept;
    if (trial >= kMostTrials) keep_kinds(*plan.runner.model().graph(), found, kept);
  }
}

/// Before anything is tried: a wrong limit would make every kernel fail, and the trial take every operator back.
void require_instruction_sets() {
  try {
    call_operator("tsquant::isas", {});
  } catch (const c10::Error& error) {
    throw Error(ErrorCode::kInvalidArgument, error.what_without_backtrace(), "TSQUANT_MAX_ISA",
                "give the environment variable one of these names, or none");
  }
}

}  // namespace

void lower_to_engine(RewriteRunner& runner, const std::string& engine_name, LoweringCost cost, const Sample& probe,
                     Report& report) {
  require_instruction_sets();
  const Plan plan{engine_named(engine_name), runner, probe};
  const EngineGuard guard(engine_name);
  Model& model = runner.model();
  ReferenceRun reference = run_reference(model, probe);
  const FloatIslands islands = find_slow_islands(plan, reference, report, rates_for(cost));
  if (!islands.empty()) {
    runner.run("leave_in_float", [&](RewriteContext&) { return leave_in_float(model, islands); });
    reference = run_reference(model, probe);
  }
  const KeptValues kept = find_kept(plan, reference, report);
  if (plan.engine.packs_for_selection) add_engine_check(model, plan.engine);
  LoweringContext context(model, plan.engine, reference, kept, report);
  for (const Step& step : steps()) {
    runner.run(step.name, [&](RewriteContext&) { return step.run(context); });
  }
  context.record_refusals();
  explain_islands(islands, report);  // lowering saw operators that nothing quantizes
  if (cost == LoweringCost::kOff) return;
  runner.run("unpack_float_weights", [&](RewriteContext&) { return unpack_float_weights(context); });
}

}  // namespace tsquant
